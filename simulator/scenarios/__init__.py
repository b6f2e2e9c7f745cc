"""Ready scenarios, a TOML file each; `cansight sim scenario` lists them."""
