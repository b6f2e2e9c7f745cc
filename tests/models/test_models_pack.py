"""A pack that is not whole, not signed, not ours or not for this car is refused with one clear line."""

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dbc.schema import Schema
from models import pack as packs
from models.errors import PackError, PackSchemaError, PackSignatureError
from models.manifest import sha256
from models.operators import check_operators
from models.pack import Pack
from models.runtime import PackRuntime


def refused(folder: Path, kind: type[PackError] = PackError, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        PackRuntime(Pack.load(folder, **options))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"pack {folder}: ")
    return message


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def replace_model(folder: Path, model: bytes) -> None:
    """With a manifest that agrees, as somebody would who can sign."""
    (folder / "model.onnx").write_bytes(model)
    edit(folder, lambda document: document.update(model={"sha256": sha256(model), "bytes": len(model)}))


def test_what_was_signed_verifies_and_another_key_does_not(pack_folder: Path) -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    assert "not signed" in refused(pack_folder, PackSignatureError, trusted=key.public_key())
    packs.sign(pack_folder, key)
    assert Pack.load(pack_folder, key.public_key()).manifest.pack_id == "loop"
    assert "not made by the trusted key" in refused(pack_folder, PackSignatureError, trusted=other.public_key())


@pytest.mark.parametrize("position", [0, 100, -2])
def test_a_changed_byte_of_the_manifest_breaks_the_signature(pack_folder: Path, position: int) -> None:
    key = Ed25519PrivateKey.generate()
    packs.sign(pack_folder, key)
    path = pack_folder / "manifest.json"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    refused(pack_folder, PackSignatureError, trusted=key.public_key())


def test_a_changed_model_is_found_by_its_hash(pack_folder: Path) -> None:
    path = pack_folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "is not the file of the manifest" in refused(pack_folder)


def test_a_pack_that_looks_at_the_vin_is_refused(pack_folder: Path) -> None:
    edit(pack_folder, lambda document: document["signals"][0].update(name="GW_Vin.VinPart"))
    assert "GW_Vin.VinPart says whose car it is" in refused(pack_folder)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_missing_links_pipes_and_folders_are_not_read(pack_folder: Path, name: str) -> None:
    path = pack_folder / name
    elsewhere = path.rename(pack_folder.parent / name)
    assert "cannot be read: No such file" in refused(pack_folder)
    path.symlink_to(elsewhere)
    assert "is a link" in refused(pack_folder)
    path.unlink()
    os.mkfifo(path)
    assert "not a plain file" in refused(pack_folder)
    path.unlink()
    path.mkdir()
    assert "not a plain file" in refused(pack_folder)


def test_too_large_files_are_not_read(pack_folder: Path) -> None:
    with (pack_folder / "model.onnx").open("r+b") as file:
        file.truncate(packs.MODEL_LIMIT + 1)
    assert "the most that is read" in refused(pack_folder)


def test_no_folder_and_a_file_in_its_place(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    assert "not a folder" in refused(tmp_path / "file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda document: document.update(format=2), "format 2; this version reads format 1"),
        (lambda document: document.update(pack_id="../../etc"), "$.pack_id"),
        (lambda document: document.update(fault_code="a/b"), "$.fault_code"),
        (lambda document: document.update(path="/etc/passwd"), "unknown field `path`"),
        (lambda document: document.pop("threshold"), "missing required field `threshold`"),
        (lambda document: document["threshold"].update(raise_at="high"), "$.threshold.raise_at"),
        (lambda document: document["threshold"].update(clear_below=1e6), "clear_below is over raise_at"),
        (lambda document: document["persistence"].update(need=20), "need is over of"),
        (lambda document: document.update(signals=[]), "$.signals"),
        (lambda document: document["signals"].append(document["signals"][0]), "is listed twice"),
        (lambda document: document.update(window=0), "$.window"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_field(pack_folder: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    edit(pack_folder, change)
    assert words in refused(pack_folder)


@pytest.mark.parametrize("data", [b"", b"[", b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_manifest_that_is_not_json(pack_folder: Path, data: bytes) -> None:
    (pack_folder / "manifest.json").write_bytes(data)
    refused(pack_folder)


def other_model(operator: str, domain: str = "", **attributes: Any) -> bytes:
    node = helper.make_node(operator, ["values"], ["score"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "other",
        [helper.make_tensor_value_info("values", TensorProto.DOUBLE, [20, 8])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, None)],
    )
    data: bytes = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return data


def test_an_operator_that_packs_may_not_use_is_named(pack_folder: Path) -> None:
    replace_model(pack_folder, other_model("Frobnicate"))
    assert "the operator 'Frobnicate'" in refused(pack_folder)
    replace_model(pack_folder, other_model("Relu", domain="com.example"))
    assert "the operator 'com.example.Relu'" in refused(pack_folder)
    replace_model(pack_folder, other_model("If"))
    assert "the operator 'If'" in refused(pack_folder)


def test_an_operator_with_a_graph_of_its_own_is_refused(pack_folder: Path) -> None:
    body = onnx.load_from_string(other_model("Relu")).graph
    replace_model(pack_folder, other_model("Identity", body=body))
    assert "a graph of its own" in refused(pack_folder)


def test_a_graph_that_is_no_detector_is_refused(pack_folder: Path) -> None:
    replace_model(pack_folder, other_model("Sigmoid"))
    assert "no output p_value" in refused(pack_folder)


def test_what_onnxruntime_says_is_said_without_its_own_source(pack_folder: Path) -> None:
    model = onnx.load_from_string((pack_folder / "model.onnx").read_bytes())
    model.opset_import[0].version = 99
    replace_model(pack_folder, model.SerializeToString())
    assert re.search(r"onnxruntime refuses model\.onnx: ONNX Runtime only [^/]* Opset 99 ", refused(pack_folder))


def test_a_graph_for_another_number_of_signals_is_refused(pack_folder: Path) -> None:
    edit(pack_folder, lambda document: document["signals"].pop())
    assert "must have one input" in refused(pack_folder)


def test_weights_in_another_file_are_refused(pack_folder: Path) -> None:
    model = onnx.load_from_string((pack_folder / "model.onnx").read_bytes())
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "form")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../../etc/passwd")
    replace_model(pack_folder, model.SerializeToString())
    assert "weights in another file" in refused(pack_folder)


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x3a\xff\xff\xff\xff\x0f", bytes(1000)])
def test_what_is_not_onnx_is_refused(pack_folder: Path, data: bytes) -> None:
    replace_model(pack_folder, data)
    edit(pack_folder, lambda document: document["model"].update(bytes=max(1, len(data))))
    refused(pack_folder)


def checked_or_refused(data: bytes) -> None:
    with contextlib.suppress(PackError):
        check_operators(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_checked_or_refused_and_nothing_else(data: bytes) -> None:
    checked_or_refused(data)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_any_changed_byte_of_a_model_is_checked_or_refused(trained: Pack, position: int, value: int) -> None:
    data = bytearray(trained.model)
    data[position % len(data)] = value
    checked_or_refused(bytes(data))


def schema_of(pack: Pack, **changes: Any) -> Schema:
    names = ["Other.Signal", *pack.manifest.names]
    n = len(names)
    fields: dict[str, Any] = {
        "channels": ("can0",),
        "names": tuple(names),
        "units": ("", *(signal.unit for signal in pack.manifest.signals)),
        "kind": np.zeros(n, np.uint8),
        "scale": np.ones(n),
        "offset": np.zeros(n),
        "minimum": np.full(n, np.nan),
        "maximum": np.full(n, np.nan),
        "channel": np.zeros(n, np.uint8),
        "period_ms": np.full(n, 100.0),
        "choices": (None,) * n,
    }
    return Schema(**(fields | changes))


def with_signals_id(pack: Pack, folder: Path, schema: Schema) -> Pack:
    columns = np.arange(1, len(pack.manifest.names) + 1)
    edit(folder, lambda document: document.update(signals_id=packs.signals_fingerprint(schema, columns)))
    return Pack.load(folder)


def test_columns_find_the_signals_wherever_they_are(pack_folder: Path, trained: Pack) -> None:
    schema = schema_of(trained)
    pack = with_signals_id(trained, pack_folder, schema)
    assert pack.columns(schema).tolist() == list(range(1, len(schema.names)))
    assert pack.columns(schema_of(trained, channels=("vcan0",))).tolist() == list(range(1, len(schema.names)))


def test_a_pack_for_another_dbc_says_which_signal(pack_folder: Path, trained: Pack) -> None:
    schema = schema_of(trained)
    pack = with_signals_id(trained, pack_folder, schema)
    names = tuple(name.replace("Loop.Flow", "Loop.Flows") for name in schema.names)
    with pytest.raises(PackSchemaError, match=r"the DBC has no signal Loop\.Flow; the nearest is Loop\.Flows"):
        pack.columns(schema_of(trained, names=names))
    with pytest.raises(PackSchemaError, match=r"Pack\.Current is in 'mA' in the DBC and in 'A' in the pack"):
        pack.columns(schema_of(trained, units=("", "mA", *schema.units[2:])))
    with pytest.raises(PackSchemaError, match="defines the pack's signals otherwise"):
        pack.columns(schema_of(trained, scale=np.full(len(schema.names), 0.5)))


def test_keys_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    for data in (None, b"nothing", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        if data is not None:
            path.write_bytes(data)
        for load in (packs.load_private_key, packs.load_public_key):
            with pytest.raises(PackError, match=r"key\.pem"):
                load(path)
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(PackError, match="expected an Ed25519 private key, found EC"):
        packs.load_private_key(path)
    path.write_bytes(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(PackError, match="expected an Ed25519 public key, found EC"):
        packs.load_public_key(path)
