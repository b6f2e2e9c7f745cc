// Light or dark: the system's, or what the reader has chosen here. A classic script, since it runs before the first paint.

window.theme = {
  themes: ["system", "light", "dark"],
  dark: matchMedia("(prefers-color-scheme: dark)"),
  chosen() {
    try {
      const name = localStorage.getItem("theme");
      return this.themes.includes(name) ? name : "system";
    } catch {
      return "system"; // storage is switched off: the system's it is
    }
  },
  choose(name) {
    try {
      localStorage.setItem("theme", name);
    } catch {
      // it holds for this page view alone
    }
    this.apply(name);
  },
  apply(name = this.chosen()) {
    const look = name === "system" ? (this.dark.matches ? "dark" : "light") : name;
    if (document.documentElement.dataset.theme === look) return;
    document.documentElement.dataset.theme = look;
    dispatchEvent(new Event("themechange"));
  },
};
window.theme.apply();
window.theme.dark.addEventListener("change", () => window.theme.apply());
