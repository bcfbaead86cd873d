"""Manifests and the catalog: what is accepted, and how clearly the rest is refused."""

from importlib import resources

import pytest

from models.catalog import DEFAULT_MODEL, list_manifests, load_manifest
from models.decoders import DECODERS
from models.errors import ManifestError
from models.manifest import FolderSource, ModelManifest, NpmSource, PypiSource, UrlSource, parse

MANIFESTS = resources.files("models") / "manifests"
GOOD = """\
name: net
title: A network
task: pose
license: MIT
attribution: somebody
homepage: https://example.org/net
format: tfjs-graph
files:
  - {role: model, path: model.json, size: 2, sha256: SHA}
  - {role: shard, path: sub/one.bin, size: 3, sha256: SHA}
sources:
  - url: https://example.org/net/
  - npm: "@scope/net@1.2.3"
    size: 9
    sha256: SHA
    prefix: package/dist
input:
  layout: NHWC
  color: rgb
  mean: 127.5
  scale: 127.5
  width: 481
  height: 353
  step: 16
outputs: {heatmap: heat, offset: offs}
stride: 16
skeleton: coco17
decoder: {name: posenet, options: {score: 0.5}}
""".replace("SHA", "ab" * 32)


def refused(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        parse(text, ModelManifest, "net.yaml")
    return str(caught.value).splitlines()


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_good_manifest_becomes_a_frozen_value():
    manifest = parse(GOOD, ModelManifest, "net.yaml")
    assert manifest.model_file.path == "model.json"
    assert [type(source) for source in manifest.sources] == [UrlSource, NpmSource]
    assert manifest.decoder.options == {"score": 0.5}
    assert manifest.input.keep_aspect
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("url: http://localhost/x/", UrlSource),
        ("{npm: net@1.0.0, size: 1, sha256: SHA, prefix: package}", NpmSource),
        ("{pypi: net==1.0, size: 1, sha256: SHA, prefix: net}", PypiSource),
        ("folder: here", FolderSource),
    ],
)
def test_every_kind_of_source_is_read(source, kind):
    start, end = GOOD.index("  - url"), GOOD.index("input:")
    text = GOOD[:start] + f"  - {source.replace('SHA', 'ab' * 32)}\n" + GOOD[end:]
    assert isinstance(parse(text, ModelManifest, "net.yaml").sources[0], kind)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("title:", "titel:", "unknown key `titel`; did you mean `title`?"),
        ("prefix:", "prefx:", "sources[1]: unknown key `prefx`; did you mean `prefix`?"),
        ("mean:", "maen:", "input: unknown key `maen`; did you mean `mean`?"),
        (
            "task: pose",
            "task: poses",
            "task: `poses` is not a possible value; did you mean `pose`?",
        ),
        ("stride: 16", "stride: sixteen", "stride: must be a whole number; write digits"),
        ("stride: 16", "stride: '16'", "stride: must be a whole number; write digits"),
        ("skeleton: coco17", "skeleton: coco", "skeleton: unknown skeleton 'coco'; known: coco17"),
        ("width: 481", "width: 480", "input: default side 480 does not fit: sides are k * 16 + 1"),
        ("- url: https", "- url: file", "sources[0].url: must match ^https?://"),
        ('"@scope/net@1.2.3"', "--registry=x", "sources[1].npm: must match ^(@"),
        ("- url:", "- ulr:", "sources[0]: a source has exactly one of the keys url, npm"),
        ("sub/one.bin", "../one.bin", "files[1].path: '../one.bin' is not a plain relative path"),
        ("sub/one.bin", "/etc/x", "files[1].path: '/etc/x' is not a plain relative path"),
        ("sub/one.bin", "model.json", "two files have the same path"),
        ("role: shard", "role: model", "exactly one file must have the role 'model'"),
        ("mean: 127.5", "mean: [1, 2]", "input.mean: give one number, or three"),
        ("mean: 127.5", "mean: high", "input.mean: give one number, or three"),
        ("scale: 127.5", "scale: [1, 0, 1]", "input.scale[1]: must be greater than 0, not 0"),
        (
            "color: rgb",
            "color: rgb\n  dtype: uint8",
            "input: an input of uint8 has mean 0 and scale",
        ),
        (
            "step: 16",
            "step: 32\n  offset: 0",
            "input: default side 481 does not fit: sides are multiples of 32",
        ),
        (
            "offset: offs",
            "offset: {tensor: o, scal: 2}",
            "outputs.offset: unknown key `scal`; did you mean `scale`?",
        ),
        (
            "offset: offs",
            "offset: {tensor: o, channels: [3, 3]}",
            "channels [3, 3] are not a first",
        ),
        ("offset: offs", "offset: {tensor: o, zero: 3}", "outputs.offset: zero needs scale"),
        ("offset: offs", "offset: 7", "outputs.offset: must be a text"),
        (
            "stride: 16",
            "stride: 16\nneeds: gpu",
            "needs: `gpu` is not a possible value; did you mean `edgetpu`?",
        ),
        (
            "format: tfjs-graph",
            "format: onnx\nstrides: [8]",
            "other strides are made of the format",
        ),
        (
            "format: tfjs-graph",
            "format: caffe",
            "format: `caffe` is not a possible value; allowed: onnx, ",
        ),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_suggestion(old, new, complaint):
    text = GOOD.replace(old, new, 1)
    errors = refused(text)
    assert any(complaint in error for error in errors), errors
    assert all(error.startswith("net.yaml:") for error in errors)


def test_the_line_is_that_of_the_wrong_key():
    text = GOOD.replace("mean:", "maen:")
    place = f"net.yaml:{line_of(text, 'maen')}:3"
    assert f"{place}: input: unknown key `maen`" in "\n".join(refused(text))


def test_a_missing_key_is_reported_at_its_parent():
    errors = refused(GOOD.replace("  color: rgb\n", ""))
    place = f"net.yaml:{line_of(GOOD, 'input:')}:1"
    assert errors == [f"{place}: input: `color` is missing; add `color: ...`"]


def test_all_errors_come_at_once():
    errors = refused(GOOD.replace("titel", "title").replace("mean:", "m:").replace("pose\n", "x\n"))
    assert len(errors) >= 3


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("", "1:1", "the file holds no keys"),
        ("- a\n", "1:1", "the file holds no keys"),
        ("name: [a\ntitle: b\n", "2:6", "expected"),
        ("name: a\ntitle: b\nname: c\n", "3:1", "`name` is already set in line 1"),
        ("name: &x a\ntitle: *x\n", "1:7", "anchors and aliases are not allowed"),
        ("name: &x a\ntitle: *x\n", "2:8", "anchors and aliases are not allowed"),
        ("name: !!python/object:os.system x\n", "1:7", "os.system is not allowed"),
        ("2024-01-01: x\n", "1:1", "unknown key `2024-01-01`"),
        ("\x00", "1:1", "special characters are not allowed"),
        ("[" * 500 + "]" * 500, "1:1", "nested too deep"),
        (r'name: "\UFFFFFFFF"', "1:1", "names no character"),
        ("sources: [here]\n", "1:11", "a source has exactly one of the keys"),
        ("input: {scale: 0}\n", "1:16", "input.scale: must be greater than 0"),
        ("outputs: {heat: {channels: [1]}}\n", "1:28", "channels: item 2 is missing"),
        ("name:\n", "1:6", "name: has no value"),
    ],
)
def test_what_is_no_manifest_is_refused_where_it_stands(text, place, complaint):
    errors = refused(text)
    there = [error for error in errors if error.startswith(f"net.yaml:{place}: ")]
    assert sum(complaint in error for error in there) == 1, errors


def test_what_is_refused_is_not_also_said_to_be_empty():
    errors = refused(GOOD.replace("title: A", "title: !!x A"))
    assert len(errors) == 1
    assert "title: the tag tag:yaml.org,2002:x is not allowed" in errors[0]


@pytest.mark.parametrize(
    ("size", "nearest"),
    [((480, 353), "465x353, 481x353"), ((1, 1), "17x17"), ((481, 350), "481x337, 481x353")],
)
def test_an_input_size_that_does_not_fit_names_the_nearest(size, nearest):
    spec = parse(GOOD, ModelManifest, "net.yaml").input
    with pytest.raises(ManifestError, match=r"k \* 16 \+ 1") as caught:
        spec.check_size(*size)
    assert caught.value.hint == f"nearest sizes: {nearest}"


@pytest.mark.parametrize("size", [(481, 353), (17, 17), (1281, 721)])
def test_any_size_of_the_rule_is_accepted(size):
    parse(GOOD, ModelManifest, "net.yaml").input.check_size(*size)


def sized(rule, width, height):
    text = GOOD.replace("  step: 16\n", rule)
    text = text.replace("width: 481", f"width: {width}").replace("height: 353", f"height: {height}")
    return parse(text, ModelManifest, "net.yaml").input


def test_sides_may_be_multiples():
    spec = sized("  step: 32\n  offset: 0\n", 320, 256)
    spec.check_size(64, 32)
    with pytest.raises(ManifestError, match="sides are multiples of 32 pixels") as caught:
        spec.check_size(0, 100)
    assert caught.value.hint == "nearest sizes: 32x96, 32x128"


def test_a_network_may_be_made_for_one_size():
    spec = sized("", 192, 192)
    spec.check_size(192, 192)
    with pytest.raises(ManifestError, match="does not take 256x192: it is made for one") as caught:
        spec.check_size(256, 192)
    assert "192x192" in caught.value.hint


@pytest.mark.parametrize("value", ["3", "[1, 2.5, 3]"])
def test_mean_and_scale_are_one_number_or_one_a_channel(value):
    spec = parse(GOOD.replace("mean: 127.5", f"mean: {value}"), ModelManifest, "net.yaml").input
    assert spec.mean == ((3, 3, 3) if value == "3" else (1, 2.5, 3))
    assert spec.scale == (127.5,) * 3


def test_outputs_may_share_a_tensor_and_be_quantized():
    text = GOOD.replace("offs}", "{tensor: mid, channels: [0, 32], scale: 1.5, zero: 117}}")
    manifest = parse(text, ModelManifest, "net.yaml")
    assert manifest.output("heatmap").is_plain
    assert manifest.output("heatmap").tensor == "heat"
    offset = manifest.output("offset")
    assert (offset.tensor, offset.channels, offset.scale, offset.zero) == ("mid", (0, 32), 1.5, 117)
    assert not offset.is_plain


UPSTREAM = "upstream: {url: https://example.org/net/, files: [a.bin], note: no checksums}\n"


def test_a_network_whose_checksums_nobody_knows_says_where_it_is():
    text = GOOD[: GOOD.index("files:")] + UPSTREAM + GOOD[GOOD.index("input:") :]
    manifest = parse(text, ModelManifest, "net.yaml")
    assert not manifest.can_fetch
    assert manifest.upstream.files == ("a.bin",)
    (error,) = refused(text.replace(UPSTREAM, ""))
    assert "give files and sources, or say in upstream where the network is" in error
    (error,) = refused(text.replace(UPSTREAM, UPSTREAM + "sources: [{folder: here}]\n"))
    assert "sources are of no use without files" in error


def test_files_with_checksums_need_no_source():
    text = GOOD[: GOOD.index("sources:")] + UPSTREAM + GOOD[GOOD.index("input:") :]
    assert not parse(text, ModelManifest, "net.yaml").can_fetch


def test_a_network_at_another_stride_shares_the_files():
    base = load_manifest("posenet-mobilenet-075")
    made = load_manifest("posenet-075-stride8")
    assert made == load_manifest("posenet-mobilenet-075-stride8")
    assert (made.stride, made.input.step, made.variant_of) == (8, 8, base.name)
    assert (made.files, made.sources, made.outputs) == (base.files, base.sources, base.outputs)
    made.input.check_size(489, 361)
    with pytest.raises(ManifestError, match="no model is named 'posenet-mobilenet-075-stride4'"):
        load_manifest("posenet-mobilenet-075-stride4")


def test_the_catalog_is_sound():
    manifests = list_manifests()
    assert {m.name for m in manifests} >= {"posenet-mobilenet-075", "posenet-mobilenet-100"}
    for manifest in manifests:
        # What runs on an Edge TPU only groups there.
        assert manifest.decoder.name in DECODERS or manifest.needs or manifest.task == "classify"
        assert load_manifest(manifest.name) == manifest
        assert (MANIFESTS / f"{manifest.name}.yaml").is_file(), "files are named as their networks"
        assert all(load_manifest(alias) == manifest for alias in manifest.aliases)
    assert load_manifest(DEFAULT_MODEL).name == load_manifest("posenet").name == DEFAULT_MODEL


def test_an_unknown_model_names_the_near_ones():
    with pytest.raises(ManifestError, match="no model is named 'posnet'") as caught:
        load_manifest("posnet")
    assert "posenet" in caught.value.hint


def test_a_manifest_can_be_a_file_of_ones_own(tmp_path):
    start, end = GOOD.index("  - url"), GOOD.index("input:")
    path = tmp_path / "net.yaml"
    path.write_text(GOOD[:start] + "  - folder: weights\n" + GOOD[end:])
    manifest = load_manifest(path)
    assert manifest.name == "net"
    assert manifest.sources == (FolderSource(folder=str(tmp_path / "weights")),)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "no manifest at"), (b"\xff\xfe\x00", "is not UTF-8 text"), (b"a: [", "mine.yaml:")],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, content, complaint):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ManifestError, match=complaint):
        load_manifest(path)
