"""`cansight models deploy`: a pack onto a vehicle, checked as the vehicle checks it."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cansight.commands.models_options import pack_argument
from cansight.errors import UsageError

if TYPE_CHECKING:
    from edge.config import EdgeConfig


@click.command()
@pack_argument
@click.option("-c", "--config", "config_file", default="edge.toml", show_default=True, metavar="FILE", type=click.Path(path_type=Path))
@click.option("--key", metavar="PRIVATE.pem", help="Sign it with this key (pack.key).  [default: it is signed already]")
def deploy(pack_dir: Path, config_file: Path, key: str | None) -> None:
    """Put a pack where the agent with these settings finds it.

    First it is checked as the agent checks it: signature, hashes, operators, the DBC's signals, one run. Where packs.folders names the
    pack's folder, or a folder of packs, it takes the place of the one of the same name. A running agent takes it up within 15 s, and lets
    it speak after a trial in shadow (packs.shadow_minutes).
    """
    from cansight import settings
    from dbc.compiler import compile_dbc
    from edge.config import EdgeConfig, resolved
    from models import pack as packs
    from models.errors import PackError
    from models.runtime import PackRuntime

    config = resolved(settings.load(config_file, EdgeConfig), config_file.absolute().parent)
    if not config.packs.trusted_key:
        raise UsageError(f"{config_file}: packs.trusted_key: is not set; name the public key of the packs (pack.pub.pem)")
    manifest = packs.Pack.load(pack_dir).manifest
    target = _target(config, manifest.pack_id, config_file)
    with tempfile.TemporaryDirectory(prefix=".deploy.", dir=_made(target.parent)) as folder:
        new, old = Path(folder) / manifest.pack_id, Path(folder) / "old"
        new.mkdir(mode=0o755)
        for name in (packs.MODEL, packs.MANIFEST, packs.SIGNATURE):
            if (pack_dir / name).exists():
                shutil.copyfile(pack_dir / name, new / name)
        try:
            if key is not None:
                packs.sign(new, packs.load_private_key(key))
            pack = packs.Pack.load(new, packs.load_public_key(config.packs.trusted_key))
            pack.columns(compile_dbc(config.dbc.files).schema)
            PackRuntime(pack)
        except PackError as error:
            raise type(error)(str(error).replace(str(new), str(pack_dir))) from error
        if target.exists():
            target.rename(old)
        new.rename(target)
    click.echo(
        f"{target}: {manifest.pack_id} {manifest.version} is whole, signed, and fits the DBC; a running agent takes it up within 15 s"
    )


def _target(config: "EdgeConfig", pack_id: str, config_file: Path) -> Path:
    from edge.detectors import holds_packs

    folders = [Path(folder) for folder in config.packs.folders]
    for folder in folders:
        if folder.name == pack_id and not (folder.is_dir() and holds_packs(folder)):
            return folder
    for folder in folders:
        if not folder.exists() or holds_packs(folder):
            return folder / pack_id
    raise UsageError(f'{config_file}: packs.folders: names no folder of packs, and none of the name {pack_id}; add "packs"')


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from error
    return folder
