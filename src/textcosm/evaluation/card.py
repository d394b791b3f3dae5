"""The model card: a checkpoint's README.md, written from its settings and its record and from nothing else."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textcosm.checkpoint import read_index, whole_file
from textcosm.evaluation.markdown import markdown_table
from textcosm.evaluation.results import flat

CARD = "README.md"
INTRODUCTION = """\
A text diffusion model in a compressed latent space, made and described by textcosm. New texts come from noise, all
positions at once; no text encoder is needed to generate."""
OF_SOURCES = """A text diffusion model in a compressed latent space, made and described by textcosm. It answers given texts, all positions
at once; the text encoder (the extra "hf") reads them."""

Row = tuple[str, ...]


def write_card(folder: str | Path, name: str | None = None) -> Path:
    """Write ``folder/README.md`` for the checkpoint in ``folder``, whole or not at all; returns its path."""
    folder = Path(folder).expanduser()
    index = read_index(folder)
    with whole_file(folder / CARD) as file:
        file.write(model_card(name or folder.resolve().name, index, _megabytes(folder)))
    return folder / CARD


def model_card(name: str, index: Mapping[str, Any], megabytes: float | None = None) -> str:
    """The card as Markdown, from a checkpoint's index (its ``config.json``).

    Read from ``metadata.record``: ``command`` (what made it), ``metrics`` (see :func:`metrics_table`), ``notes`` (a
    list of sentences); whatever else is there goes into the training table as it is.
    """
    metadata = index["metadata"]
    record = dict(metadata.get("record", {}))
    command, metrics, notes = record.pop("command", None), record.pop("metrics", {}), record.pop("notes", [])
    parts = [
        f"# {name}",
        OF_SOURCES if metadata["config"]["denoiser"].get("source_depth") else INTRODUCTION,
        _code("python", "from textcosm import TextDiffusion", f'TextDiffusion.load("{name}").sample({_what(metadata)}, seed=0)'),
        _section("Sizes", markdown_table(("what", "value"), list(_sizes(index, megabytes)))),
        _section("Training", markdown_table(("what", "value"), list(_flat(record))), _code("bash", command) if command else ""),
        _section("Measured", metrics_table(metrics), _measured_by(metrics)),
        _section("Notes", "\n".join(f"- {note}" for note in notes)),
        _section("Settings", markdown_table(("setting", "value"), list(_flat(metadata["config"])))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(metadata: Mapping[str, Any]) -> str:
    """What a model is asked for: so many texts, or one for each source."""
    return 'source=["..."]' if metadata["config"]["denoiser"].get("source_depth") else "4"


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """Every measured value with its interval, as a Markdown table beside what the first version set out to reach.

    ``metrics`` holds the results' dictionaries: ``autoencoder`` (AutoencoderResult), ``generation`` (GenerationResult),
    ``start_seconds`` and ``whole_stories`` (a line of text); any of them may be missing.
    """
    rows = [*_autoencoder_rows(metrics.get("autoencoder")), *_generation_rows(metrics.get("generation"))]
    if "whole_stories" in metrics:
        rows.append(("stories of five whole sentences, read by eye", str(metrics["whole_stories"]), "shown"))
    if "start_seconds" in metrics:
        rows.append(("cold start to the first text, two CPU cores", f"{metrics['start_seconds']:.1f} s", "<= 8 s"))
    return markdown_table(("measure", "value [95 % interval]", "aim"), rows)


def _autoencoder_rows(found: Mapping[str, Any] | None) -> Iterator[Row]:
    if not found:
        return
    latents, positions = found["compression"]["latents"], found["compression"]["positions"]
    mean = found["compression"]["tokens_per_text"]
    yield f"compression, nominal ({positions} positions / {latents} latents)", f"{positions / latents:.1f}", ""
    yield f"compression, real ({mean:.1f} tokens in the mean text / {latents})", f"{mean / latents:.1f}", ""
    yield f"texts longer than {positions} tokens, cut", f"{found['compression']['cut']} of {found['texts']}", "shown"
    yield "token accuracy of reconstruction", _interval(found["token_accuracy"]), ">= 0.97"
    yield "texts reconstructed without a wrong token", _interval(found["whole_texts"]), ""
    form = found["written_form"]
    yield "words written as in the text (case), of words kept", _interval(form["words"]), ""
    yield "letters in the right case", _interval(form["letters"]), ""
    yield "spaces where the text has them", _interval(form["spaces"]), ""
    aims = {0.5: ">= 0.95", 1.0: ">= 0.85"}
    for level in found["under_noise"]:
        yield f"BLEU under latent noise {level['sigma']:g}", _interval(level["bleu"]), aims.get(level["sigma"], "")


def _generation_rows(found: Mapping[str, Any] | None) -> Iterator[Row]:
    if not found:
        return
    new, real = found["generated"], found["real"]
    pair = f"{new['texts']} generated / as many real"
    if new["perplexity"]:
        judge = new["perplexity"]["judge"]
        yield f"perplexity, judge {judge}, {pair}", _both(new["perplexity"], real["perplexity"], "trimmed", 1), ""
        yield "ratio of these", f"{found['perplexity_ratio']:.2f}", "<= 1.4"
        yield "perplexity over all tokens", _both(new["perplexity"], real["perplexity"], "corpus", 1), ""
    yield f"Div, {pair}", _both(new, real, "diversity"), ""
    yield "ratio of these", f"{found['diversity_ratio']:.2f}", ">= 0.9"
    yield f"4-grams found in training texts, {pair}", _both(new, real, "memorised"), "shown"
    yield "training texts word for word", f"{new['copies']} / {real['copies']}", "shown"
    yield "words in a text", f"{new['words_per_text']:.1f} / {real['words_per_text']:.1f}", ""
    yield "sentences in a text", f"{new['sentences_per_text']:.2f} / {real['sentences_per_text']:.2f}", ""


def _measured_by(metrics: Mapping[str, Any]) -> str:
    said = [str(metrics[key]) for key in ("data", "machine") if key in metrics]
    if "command" in metrics:
        said.append(_code("bash", metrics["command"]))
    return "\n\n".join(said)


def _sizes(index: Mapping[str, Any], megabytes: float | None) -> Iterator[Row]:
    config, backbone = index["metadata"]["config"], index["metadata"]["backbone"]
    auto = config["autoencoder"]
    width = auto["width"] or backbone["width"]
    kept = config.get("normaliser", {}).get("pca_width", 0)  # models from before there was PCA do not say
    by_pca = f", of which PCA keeps {kept}" if kept else ""
    yield "latents N x width", f"{auto['num_latents']} x {auto['latent_width'] or width}{by_pca}"
    yield "positions L", f"{auto['max_length']}"
    depths = f"{auto['compressor_depth']} / {auto['decompressor_depth']}"
    yield "compressor / decompressor", f"{depths} layers, width {width}"
    yield "denoiser", f"{config['denoiser']['depth']} layers, width {config['denoiser']['width']}"
    if depth := config["denoiser"].get("source_depth"):
        yield "source encoder", f"{depth} layers, reads at most {config['source']['max_length']} tokens"
    encoder = config["backbone"]
    yield "frozen encoder", f"{encoder['name']}, layer {encoder['layer']}, width {backbone['width']}"
    yield "vocabulary", f"{backbone['vocab_size']:,}"
    if "ngrams" in index.get("states", {}):
        yield "n-grams of the training texts", "up to 3 tokens, seen twice or more"
    size = f", {megabytes:.1f} MB" if megabytes else ""
    yield "weights", f"{index.get('precision', 'float32')}{size}"


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6


# ---------------------------------------------------------------- Markdown


def _interval(value: Mapping[str, float], digits: int = 3) -> str:
    return f"{value['value']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _both(new: Mapping[str, Any], real: Mapping[str, Any], name: str, digits: int = 3) -> str:
    return f"{_interval(new[name], digits)} / {_interval(real[name], digits)}"


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *filter(None, parts)]) if any(parts) else ""


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _flat(values: Mapping[str, Any]) -> Iterator[Row]:
    """Nested settings as dotted rows; the histogram of lengths is for drawing from, not for reading."""
    rows = ((name, value) for name, value in flat(values) if name != "data.lengths")
    return ((name, f"{value:g}" if isinstance(value, float) else str(value)) for name, value in rows)
