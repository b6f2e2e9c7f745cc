"""manifest.json: what a pack says of itself. docs/packs.md describes each field; the signature covers the file's bytes."""

import hashlib
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import numpy as np

from models.alarm import Alarm
from models.baseline import Baselines
from models.drives import Drives

FORMAT = 1
"""Raised when an older runtime could misread a newer pack."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Ids become folder names and topics elsewhere, so they hold neither dots nor slashes."""
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]


class SignalSpec(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One input column of the model, in the order of the graph's input."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    unit: Annotated[str, msgspec.Meta(max_length=40)]
    role: Literal["monitored", "context"]
    """monitored: may be at fault and is explained; context: describes the operating point and is trusted."""
    minimum: Finite
    maximum: Finite
    """The range seen in training, in the signal's unit; the graph judges `known` by these and a margin."""


class Threshold(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Scores at which the alarm is raised and under which it is cleared."""

    raise_at: Annotated[float, msgspec.Meta(gt=0.0, le=1e12)]
    clear_below: Annotated[float, msgspec.Meta(gt=0.0, le=1e12)]


class Persistence(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`need` of the last `of` scored ticks, after `warmup_ticks` scored ticks; a gap of `gap_s` forgets what was before."""

    need: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    of: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    warmup_ticks: Annotated[int, msgspec.Meta(ge=0, le=3600)]
    gap_s: Annotated[int, msgspec.Meta(ge=1, le=3600)]


class Calibration(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The healthy drives that no parameter was fitted on and that p-values and thresholds come from."""

    drives: Positive
    ticks: Positive
    highest: Finite
    """Highest persistent score of any of these drives: the smallest threshold that would have stayed silent on all of them."""


class Promise(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The chance that a healthy drive raises the alarm, as far as the calibration drives can say; models/tail.py."""

    expected: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    """Of the next drive."""
    upper: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    """95 % sure that it is no more."""


class TailLaw(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The middle of the generalised Pareto laws that fit the highest scores: to draw, and to see what kind of tail it is."""

    over: Finite
    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    """Of the drives, that are over it."""
    shape: Finite
    scale: Annotated[float, msgspec.Meta(gt=0.0, le=1e300)]


class AlarmBudget(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How many false findings the threshold was set for, and how many the calibration drives can vouch for."""

    per_drive: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)]
    """Asked for."""
    tail: Literal["pareto", "gumbel", "highest"]
    """pareto: peaks over a threshold. gumbel: of fewer than 500 drives, a law of the drives' highest scores, which places the threshold and
    promises nothing. highest: too few drives for any law, the highest score with a margin."""
    drives: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    """Independent drives that the calibration drives are worth; None: as many as there are, in packs of before 2026-11-23."""
    finding: Promise | None = None
    ticket: Promise | None = None
    """The same of a finding at ticket level."""
    law: TailLaw | None = None


class DriveRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a drive is: judged ticks without a pause of more than `gap_s`; a shorter one than `least_ticks` judged ticks does not count."""

    gap_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 600
    least_ticks: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300


class Confirm(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A finding has ticket level when `drives` of the last `of` drives would have raised the alarm, or a score is high enough by itself."""

    drives: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    of: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    at_once: Annotated[float, msgspec.Meta(gt=0.0, le=1e12)] | None = None
    """Persistent scores at or over this confirm in the first drive; None: none do."""


class OwnSignal(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What a monitored signal may have of its vehicle's own."""

    bound: Annotated[float, msgspec.Meta(gt=0.0, le=1e300)]
    """In the signal's unit: more than this, up or down, is not taken for the vehicle's own."""
    kind: Literal["offset", "gain"]
    """offset: the same everywhere; gain: in proportion to the expected value, and `bound` is that at the mean of the training."""


class Baseline(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The pack is judged against each vehicle's own healthy offsets, learned over its first healthy drives; models/baseline.py."""

    least: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    """Healthy drives from which on the vehicle's own baseline is used; until then the fleet's, all zeros."""
    most: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    """Healthy drives after which it stays as it is."""
    learning: Annotated[float, msgspec.Meta(ge=1.0, le=1e12)]
    """Scores are divided by this while the vehicle has no baseline of its own, so that one threshold fits both."""
    signals: dict[str, OwnSignal]
    """Every monitored signal."""


class Training(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What the model was fitted on, enough to do it again."""

    data_sha256: Sha256
    drives: Positive
    ticks: Positive
    seed: int
    ridge: dict[str, float]
    """Chosen ridge penalty of each monitored signal, relative to the number of ticks; empty without context."""
    dropped: dict[str, str]
    """Signals that were offered and not used, with the reason."""

    def left_out(self) -> list[tuple[str, list[str]]]:
        """`dropped` by reason, those of the most signals first: of a real car's two thousand signals most are never sent."""
        groups: dict[str, list[str]] = {}
        for name, reason in self.dropped.items():
            alike = "copy of another" if reason.startswith("copy of") else "valid too rarely" if reason.startswith("valid in") else reason
            groups.setdefault(alike, []).append(name)
        return sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))


class Evaluation(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How the finished pack does on its own calibration drives; an evaluation on unseen data is not the trainer's to write."""

    calibration_alarms: Count
    score_p50: float
    score_p99: float
    explained: dict[str, float]
    """Share of each monitored signal's variance that its expected value explains, on drives that it was not fitted on."""


class ModelFile(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """model.onnx beside the manifest; there is no path in a manifest, so none can lead elsewhere."""

    sha256: Sha256
    bytes: Positive


RungName = Literal["limits", "following", "pca", "expected", "autoencoder", "joint"]
RUNGS: dict[RungName, str] = {
    "limits": "limits of each signal by itself",
    "following": "levels that follow slow drift",
    "pca": "PCA of the signals",
    "expected": "expected value at the operating point, then PCA of what remains",
    "autoencoder": "autoencoder of what remains of the signals",
    "joint": "each of many signals by all others and its own past",
}
"""From the lowest up: what each does, in words."""


class Manifest(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A pack's manifest; `parse` and `encode` are its only ways in and out."""

    format: int
    pack_id: Name
    version: Annotated[str, msgspec.Meta(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    fault_code: Name
    rung: RungName
    """As RUNGS says."""
    signals: Annotated[list[SignalSpec], msgspec.Meta(min_length=1, max_length=4096)]
    schema_id: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?$")]
    """Id of the whole DBC schema in training; empty: trained on a table."""
    signals_id: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?$")]
    """Fingerprint of the definitions of this pack's signals alone: what `Pack.columns` insists on."""
    window: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    """Ticks that the graph is given."""
    average: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    """Of these: the newest ones, over which the monitored signals are averaged."""
    threshold: Threshold
    persistence: Persistence
    calibration: Calibration
    alarm_budget: AlarmBudget
    training: Training
    evaluation: Evaluation
    model: ModelFile
    drives: DriveRule = DriveRule()
    confirm: Confirm = Confirm()
    baseline: Baseline | None = None
    """None: every vehicle is judged as the fleet is."""

    @property
    def names(self) -> list[str]:
        """Names of the input columns, in order."""
        return [signal.name for signal in self.signals]

    def alarm(self) -> Alarm:
        """The threshold stage that this manifest asks for."""
        rule = self.persistence
        return Alarm(
            raise_at=self.threshold.raise_at,
            clear_below=self.threshold.clear_below,
            need=rule.need,
            of=rule.of,
            warmup=rule.warmup_ticks,
            gap_ms=rule.gap_s * 1000,
        )

    def sure(self) -> Alarm | None:
        """The alarm of scores that confirm by themselves; None where none do."""
        return None if self.confirm.at_once is None else replace(self.alarm(), raise_at=self.confirm.at_once)

    def drive_rule(self) -> Drives:
        """What a drive is, and in how many of them a finding is confirmed."""
        rule = self.drives
        return Drives(gap_ms=rule.gap_s * 1000, least_ticks=rule.least_ticks, need=self.confirm.drives, of=self.confirm.of)

    @property
    def monitored(self) -> list[int]:
        """Input columns of the monitored signals, in order."""
        return [at for at, signal in enumerate(self.signals) if signal.role == "monitored"]

    def baselines(self) -> Baselines | None:
        """How a vehicle's own baseline is learned; its signals are the monitored ones, in order. None: this pack has none."""
        own = self.baseline
        if own is None:
            return None
        return Baselines(own.least, own.most, np.array([own.signals[self.signals[at].name].bound for at in self.monitored]))


def encode(manifest: Manifest) -> bytes:
    """The file's bytes: the same for the same manifest, readable, one final line end."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def parse(data: bytes) -> Manifest:
    """The checked manifest. Raises ValueError with the field's path, what was expected and what was found."""
    try:
        version = msgspec.json.decode(data, type=_FormatOnly).format
        if version != FORMAT:
            raise ValueError(f"format {version}; this version reads format {FORMAT}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    names = manifest.names
    if len(set(names)) != len(names):
        raise ValueError(f"signal {next(name for name in names if names.count(name) > 1)} is listed twice - at `$.signals`")
    if manifest.threshold.clear_below > manifest.threshold.raise_at:
        raise ValueError("clear_below is over raise_at - at `$.threshold`")
    if manifest.average > manifest.window:
        raise ValueError("average is over window - at `$.average`")
    if manifest.persistence.need > manifest.persistence.of:
        raise ValueError("need is over of - at `$.persistence`")
    if manifest.drives.gap_s < manifest.persistence.gap_s:
        raise ValueError("gap_s is under that of the persistence - at `$.drives`")
    if manifest.confirm.drives > manifest.confirm.of:
        raise ValueError("drives is over of - at `$.confirm`")
    if manifest.confirm.at_once is not None and manifest.confirm.at_once < manifest.threshold.raise_at:
        raise ValueError("at_once is under raise_at - at `$.confirm`")
    if manifest.baseline is not None:
        _check_baseline(manifest.baseline, [manifest.signals[at].name for at in manifest.monitored])
    if not any(signal.role == "monitored" for signal in manifest.signals):
        raise ValueError("no signal has the role monitored - at `$.signals`")
    return manifest


def _check_baseline(baseline: Baseline, monitored: list[str]) -> None:
    if baseline.least > baseline.most:
        raise ValueError("least is over most - at `$.baseline`")
    if odd := set(monitored) ^ set(baseline.signals):
        raise ValueError(f"{min(odd)} is not both monitored and in the baseline - at `$.baseline.signals`")


class _FormatOnly(msgspec.Struct):
    format: int


def sha256(data: bytes) -> str:
    """Lower-case hex."""
    return hashlib.sha256(data).hexdigest()
