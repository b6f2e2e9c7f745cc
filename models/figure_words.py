"""What a bus says besides its signals (dbc/network.py), in words: a message that is overdue, frames too many, values that are missing."""

from typing import Literal

from dbc.catalogue import Catalogue, Words
from dbc.network import UNKNOWN, figure_of

__all__ = ["figure_seen", "figure_source", "figure_words"]

_LABELS = {
    "#silence": Words("{of}: overdue, in periods", "{of}：超时的周期数"),
    "#repeated": Words("{of}: repeated frames", "{of}：重复帧数"),
    "#excess": Words("{of}: frames too many", "{of}：多出的帧数"),
    "#counter": Words("{of}: wrong alive counters", "{of}：计数器错误帧数"),
    "#checksum": Words("{of}: wrong checksums", "{of}：校验和错误帧数"),
    "#absent": Words("{of}: missing values", "{of}：缺失值次数"),
    UNKNOWN: Words("{of}: unknown frames", "{of}：未知帧数"),
}
_SEEN = {
    "#silence": Words("overdue by {seen} of its periods", "已超时{seen}个周期"),
    "#repeated": Words("{seen} frames a second too many, the same again and again", "每秒多出{seen}帧，内容重复"),
    "#excess": Words("{seen} frames a second too many", "每秒多出{seen}帧"),
    "#counter": Words("{seen} frames a second whose alive counter is wrong", "每秒{seen}帧活动计数器错误"),
    "#checksum": Words("{seen} frames a second whose checksum is wrong", "每秒{seen}帧校验和错误"),
    "#absent": Words("{seen} times a second without a value", "每秒{seen}次没有数值"),
    UNKNOWN: Words("{seen} frames a second that nobody on it should send", "每秒{seen}帧不属于该总线"),
}


def figure_source(name: str, catalogue: Catalogue, language: Literal["en", "zh"]) -> str:
    """Whose figure it is: "message BMS_Pack (Traction battery)", "bus can0"; "" of a signal."""
    found = figure_of(name)
    if found is None:
        return ""
    of, kind = found
    if kind == UNKNOWN:
        return f"总线{of}" if language == "zh" else f"bus {of}"
    part = _subsystem(of, catalogue)
    if language == "zh":
        return f"报文{of}（{part.zh}）" if part is not None else f"报文{of}"
    return f"message {of} ({part.en})" if part is not None else f"message {of}"


def figure_words(name: str, catalogue: Catalogue, language: Literal["en", "zh"]) -> str:
    """What a figure is called, beside the signals' names; "" of a signal."""
    found = figure_of(name)
    if found is None:
        return ""
    label = _LABELS[found[1]]
    of = figure_source(name, catalogue, language)
    return (label.zh if language == "zh" else label.en).format(of=of[:1].upper() + of[1:])


def figure_seen(name: str, seen: float, most: float | None, catalogue: Catalogue, language: Literal["en", "zh"]) -> str:
    """A figure's sentence. most: what a healthy car shows at most; None: not known. "" of a signal."""
    found = figure_of(name)
    if found is None:
        return ""
    of = figure_source(name, catalogue, language)
    said = _SEEN[found[1]]
    if language == "zh":
        limit = "" if most is None else f"；正常车辆最多{most:.0f}" if most >= 1 else "；正常车辆没有"
        return f"{of}：{said.zh.format(seen=f'{seen:.0f}')}{limit}。"
    limit = "" if most is None else f"; in a healthy car at most {most:.0f}" if most >= 1 else "; in a healthy car none"
    return f"{of[:1].upper()}{of[1:]}: {said.en.format(seen=f'{seen:.0f}')}{limit}."


def _subsystem(message: str, catalogue: Catalogue) -> Words | None:
    """Of the car, in which the message's signals are: whom to look for."""
    plain = message.partition(":")[2] or message
    for name, entry in catalogue.signals.items():
        if name.rpartition(".")[0] == plain and entry.subsystem != "network":
            return catalogue.subsystems[entry.subsystem]
    return None
