"""The corridor end to end on an untrained tiny model: shapes, determinism, and clear words on what cannot be done."""

from dataclasses import dataclass, replace

import pytest
import torch

import textcosm
from textcosm import pipeline
from textcosm.config import Config
from textcosm.control.mbr import chooser
from textcosm.diffusion.denoiser import Denoiser
from textcosm.diffusion.sampling import SamplerConfig, seeds_of
from textcosm.errors import BackboneError, CheckpointError, ConfigError, DataError
from textcosm.pipeline import TextDiffusion, find_model, shipped_models, slerp
from textcosm.testing import tiny_model
from textcosm.text.ngrams import NONE
from textcosm.text.tiny import TinyBackbone

TEXTS = ["The dog ran home.", "Anna saw a bird, and so did we."]


@pytest.fixture(scope="module")
def model() -> TextDiffusion:
    return tiny_model()


# --- sampling


def test_a_text_is_the_same_in_any_batch(model):
    together = model.sample(5, seed=3)
    assert len(together) == 5 and len(set(together)) > 1
    assert model.sample(5, seed=3, batch_size=2) == together
    assert model.sample(2, seed=3) == together[:2]
    assert model.sample(5, seed=4) != together


def test_sampling_needs_no_encoder(model, monkeypatch):
    monkeypatch.setattr(pipeline, "open_backbone", lambda *_: pytest.fail("sampling opened the encoder"))
    assert len(model.sample(1)) == 1


def test_stream_and_trace_end_in_what_sample_gives(model):
    wanted = model.sample(3, steps=4, seed=1, solver="ddim")
    parts = list(model.stream(3, steps=4, seed=1, solver="ddim", batch_size=2))
    assert [len(part) for part in parts] == [2, 1] and [*parts[0], *parts[1]] == wanted
    snapshots = list(model.trace(3, steps=4, seed=1, solver="ddim"))
    assert snapshots[-1].texts == wanted
    assert [(s.step, s.steps) for s in snapshots] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    times, levels = [s.time for s in snapshots], [s.noise for s in snapshots]
    assert times == sorted(times, reverse=True) and levels == sorted(levels, reverse=True)
    assert times[0] == 1 and levels[0] == pytest.approx(1)


def test_a_sampler_of_ones_own(model):
    own = SamplerConfig(steps=3, solver="ddim", end_time=0.2)
    assert model.sample(1, sampler=own) == model.sample(1, sampler=replace(own, steps=9), steps=3)
    assert [snapshot.time for snapshot in model.trace(1, sampler=own)][-1] == pytest.approx(0.2)


@dataclass(frozen=True)
class Leap:
    """A solver from outside: believe the first guess."""

    def step(self, process, now, s, past):
        return now.clean


def test_a_solver_from_outside(model):
    assert len(model.sample(2, steps=2, solver=Leap())) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n is 0; it must be at least 1"),
        ({"n": 1, "steps": 0}, "steps = 0"),
        ({"n": 1, "solver": "magic"}, "solver 'magic' is unknown"),
        ({"n": 1, "batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_sampling_options(model, options, message):
    with pytest.raises(ConfigError, match=message):
        model.sample(**options)


def test_a_name_that_is_no_option(model):
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'; there are batch_size, best, guid"):
        model.sample(1, **{"step": 3})


# --- guides, a start, candidates


@dataclass(frozen=True)
class Towards:
    """A guide with one aim for each text."""

    aims: torch.Tensor

    def __call__(self, clean, time):
        assert len(clean) == len(self.aims)
        return (clean + self.aims) / 2

    def select(self, rows):
        return Towards(self.aims[rows])


def test_guides_move_texts_and_a_text_is_the_same_in_any_batch(model):
    guide = Towards(torch.randn(5, 8, 32, generator=torch.Generator().manual_seed(0)))
    together = model.sample(5, seed=3, guides=[guide])
    assert together != model.sample(5, seed=3)
    assert model.sample(5, seed=3, guides=[guide], batch_size=2) == together
    aimed = model.decode(guide.aims)
    assert model.sample(5, seed=3, guides=[guide] * 40) == aimed


def test_a_start_without_noise_is_where_the_text_begins(model):
    start = model.encode(TEXTS)
    plain = model.sample(2, steps=3, start=start, start_time=0.6)
    assert model.sample(2, steps=3, start=start, start_time=0.6, batch_size=1) == plain
    first = next(model.trace(2, steps=3, start=start, start_time=0.6))
    assert first.time == 0.6 and first.steps == 3
    assert model.sample(2, start=start, start_time=1.0) == model.sample(2)
    with pytest.raises(ConfigError, match=r"the start is \(2, 8, 32\); this walk takes \(3, 8, 32\)"):
        model.sample(3, start=start)


def test_a_refinement_goes_through_the_text_and_one_more_guess(model, monkeypatch):
    plain = model.sample(3, seed=4, steps=3)
    options = {"seed": 4, "steps": 3, "refine": 2}
    texts = model.sample(3, **options)
    assert model.sample(3, **options, batch_size=1) == texts != plain
    snapshots = list(model.trace(3, **options))
    assert [s.texts for s in snapshots[2::2]] == [plain, texts]
    assert [(s.step, s.steps, s.time) for s in snapshots[3:]] == [(4, 5, 0.2), (5, 5, 0.2)]
    encoded, encode = [], type(model).encode
    monkeypatch.setattr(type(model), "encode", lambda self, given, *rest: encoded.append(given) or encode(self, given, *rest))
    model.sample(3, **options)
    assert encoded == [plain, snapshots[3].texts]


def test_the_best_of_k_is_one_of_k_and_the_first_of_two(model):
    alone = model.sample(4, seed=2, steps=2)
    assert model.sample(4, seed=2, steps=2, mbr=1) == model.sample(4, seed=2, steps=2, mbr=2) == alone
    best = model.sample(4, seed=2, steps=2, mbr=3)
    assert model.sample(4, seed=2, steps=2, mbr=3, batch_size=3) == best
    seeds = [seeds_of(2, 4, candidate) for candidate in range(3)]
    assert seeds[0] == seeds_of(2, 4) and len({seed for several in seeds for seed in several}) == 12
    walk = model._walk(slice(0, 4), {"steps": 2})
    drafts = [model.decode(pipeline._end(walk(several))) for several in seeds]
    assert drafts[0] == alone and best == [chooser(3)(several) for several in zip(*drafts, strict=True)]


def test_the_best_of_k_by_the_model_has_the_least_error(model):
    drafts = [model.decode(pipeline._end(model._walk(slice(0, 4), {"steps": 2})(seeds_of(2, 4, k)))) for k in range(3)]
    errors = [model.denoising_error(texts) for texts in drafts]
    best = model.sample(4, seed=2, steps=2, best=3)
    least = [min(range(3), key=lambda k: errors[k][row]) for row in range(4)]
    assert best == [drafts[k][row] for row, k in enumerate(least)]
    assert model.sample(4, seed=2, steps=2, best=3, batch_size=3) == best != drafts[0]
    assert model.sample(4, seed=2, steps=2, best=1) == drafts[0]


def test_the_error_of_a_blank_text_is_infinite_and_a_source_counts(answering):
    errors = answering.denoising_error(["the dog ran", " ", "we lost"])
    assert errors[1] == float("inf") and 0 < errors[0] < 9 and 0 < errors[2] < 9
    assert errors[::2] == pytest.approx(answering.denoising_error(["the dog ran", "we lost"], batch_size=1))
    with_source = answering.denoising_error(["the dog ran"] * 2, SOURCES[:2])
    assert len({errors[0], *with_source}) == 3
    best = answering.sample(source=SOURCES, seed=3, steps=3, best=2)
    assert best == answering.sample(source=SOURCES, seed=3, steps=3, best=2, batch_size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mbr": 0}, "mbr is 0; choose among at least 1"),
        ({"best": 0}, "best is 0; choose among at least 1"),
        ({"best": 2, "mbr": 2}, "both choose among candidates"),
    ],
)
def test_candidates_below_one_and_two_choices(model, options, message):
    with pytest.raises(ConfigError, match=message):
        model.sample(1, **options)


@pytest.mark.parametrize("name", ["mbr", "best"])
def test_no_choice_while_texts_emerge(model, name):
    with pytest.raises(ConfigError, match=f"{name} chooses among texts that are done"):
        next(model.trace(1, **{name: 3}))


# --- sources

SOURCES = ["The dog ran home at night.", "Anna saw a bird.", "It rained, and so we stayed in with our books and read."]


@pytest.fixture(scope="module")
def answering() -> TextDiffusion:
    """A model that reads sources, with weights that make them matter."""
    return tiny_model(source_length=12)


def test_one_text_for_each_source_the_same_in_any_batch(answering):
    texts = answering.sample(source=SOURCES, seed=3, steps=3)
    assert len(texts) == 3
    assert answering.sample(3, source=SOURCES, seed=3, steps=3, batch_size=2) == texts
    assert answering.sample(source=SOURCES[:1], seed=3, steps=3) == texts[:1]
    assert answering.sample(source=SOURCES[::-1], seed=3, steps=3)[0] != texts[0]
    assert [s.texts for s in answering.trace(source=SOURCES, seed=3, steps=3)][-1] == texts


def test_a_source_is_read_once_and_not_at_each_step(answering, monkeypatch):
    calls, read = [], Denoiser.encode_source
    monkeypatch.setattr(Denoiser, "encode_source", lambda *given: calls.append(given) or read(*given))
    answering.sample(source=SOURCES, steps=5, mbr=3)
    assert len(calls) == 1
    answering.sample(source=SOURCES, steps=5, best=3)
    assert len(calls) == 3  # once to write, once to choose


def test_guidance_weighs_the_source(answering):
    options = {"source": SOURCES, "seed": 3, "steps": 3}
    free = answering.sample(3, seed=3, steps=3)
    assert answering.sample(**options, guidance=1.0) == answering.sample(**options)
    assert answering.sample(**options, guidance=0.0) == free != answering.sample(**options)
    strong = answering.sample(**options, guidance=3.0)
    assert strong != answering.sample(**options) and answering.sample(**options, guidance=3.0, batch_size=2) == strong


def test_a_rewriting_may_answer_its_own_source(answering):
    options = {"seed": 3, "steps": 3}
    plain, answer = answering.rewrite(SOURCES, 0.7, **options), answering.rewrite(SOURCES, 0.7, source=SOURCES, **options)
    assert answer != plain and answering.rewrite(SOURCES, 0.7, source=SOURCES, batch_size=2, **options) == answer
    assert answering.rewrite(SOURCES, 0, source=SOURCES, **options) == answering.rewrite(SOURCES, 0, **options)
    assert answering.rewrite(SOURCES, 1, source=SOURCES, **options) == answering.sample(source=SOURCES, **options)
    for name in ("mbr", "best"):
        with pytest.raises(ConfigError, match=f"{name} chooses among texts from noise"):
            answering.rewrite(SOURCES, 0.7, source=SOURCES, **{name: 2})


def test_a_models_own_guidance_waits_for_a_source(answering):
    own = replace(answering.config.sampler, guidance=2.0)
    guided = replace(answering, config=replace(answering.config, sampler=own))
    assert guided.sample(2) == answering.sample(2)
    assert guided.sample(source=SOURCES) == answering.sample(source=SOURCES, guidance=2.0)


def test_sources_beyond_the_limit_are_cut_and_counted(answering):
    assert answering.cut_sources(SOURCES) == 1
    assert answering.sample(source=[SOURCES[2] + " And more, and more."]) == answering.sample(source=[SOURCES[2]])


@pytest.mark.parametrize(
    ("n", "options", "error", "message"),
    [
        (None, {"source": ["One.", " "]}, DataError, "source 2 of 2 is empty"),
        (None, {"source": []}, DataError, "no texts were given"),
        (None, {"source": "One."}, DataError, "a single string was given"),
        (2, {"source": ["One."]}, ConfigError, "n is 2 and there are 1 sources: each gives one text, so leave n out"),
        (2, {"guidance": 2.0}, ConfigError, "guidance = 2 weighs the source, and there is none"),
        (None, {"source": ["One."], "guidance": -1.0}, ConfigError, "guidance = -1.0 is no number from 0 up"),
    ],
)
def test_bad_sources(answering, n, options, error, message):
    with pytest.raises(error, match=message) as caught:
        answering.sample(n, **options)
    assert "\n" not in str(caught.value)


def test_a_model_that_reads_no_source_says_so(model):
    with pytest.raises(ConfigError, match=r"reads no source: leave it out, or train one that does"):
        model.sample(source=["One."])
    with pytest.raises(ConfigError, match="guidance = 2 weighs the source, and there is none"):
        model.sample(1, guidance=2.0)


def test_a_model_that_reads_sources_is_saved_and_loaded(answering, tmp_path):
    answering.save(tmp_path / "m")
    again = TextDiffusion.load(tmp_path / "m", "cpu")
    assert again.reads_sources and again.config.source.max_length == 12
    assert again.sample(source=SOURCES, steps=2) == answering.sample(source=SOURCES, steps=2)


# --- text and latents


def test_encode_and_decode(model):
    latents = model.encode(TEXTS)
    assert latents.shape == (2, 8, 32)
    torch.testing.assert_close(model.encode(TEXTS, batch_size=1), latents)
    texts = model.decode(latents)
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)


def test_latents_are_normalised(model):
    raw = model.encode(TEXTS)
    other = tiny_model()
    other.normaliser.mean += 1
    other.normaliser.std *= 2
    torch.testing.assert_close(other.encode(TEXTS), (raw - 1) / 2)
    assert other.decode((raw - 1) / 2) == model.decode(raw)


def test_decode_accepts_many_and_refuses_other_shapes(model, monkeypatch):
    monkeypatch.setattr(pipeline, "DECODE_AT_ONCE", 3)
    latents = torch.randn(7, 8, 32, generator=torch.Generator().manual_seed(0))
    assert model.decode(latents) == [model.decode(row[None])[0] for row in latents]
    with pytest.raises(ConfigError, match=r"latents are \(7, 4, 32\); this model decodes \(batch, 8, 32\)"):
        model.decode(latents[:, :4])


def test_reconstruct_counts_tokens(model):
    found = model.reconstruct(TEXTS)
    assert [row.text for row in found] == TEXTS
    assert all(0 <= row.token_accuracy <= 1 for row in found)
    assert [row.reconstruction for row in found] == model.decode(model.encode(TEXTS))


def test_perfect_decoder_gives_accuracy_one(model, monkeypatch):
    batch = TinyBackbone().tokenize(TEXTS, 24)
    tokens = torch.nn.functional.pad(batch.tokens, (0, 24 - batch.tokens.shape[1]))
    forms = torch.nn.functional.pad(batch.forms, (0, 24 - batch.forms.shape[1]))
    monkeypatch.setattr(TextDiffusion, "_decode", lambda self, latents: (tokens, forms))
    assert [(row.reconstruction, row.token_accuracy) for row in model.reconstruct(TEXTS)] == [(t, 1.0) for t in TEXTS]


@pytest.mark.parametrize("method", ["encode", "reconstruct"])
@pytest.mark.parametrize(("texts", "message"), [("one", "a single string"), ([], "no texts")])
def test_bad_texts(model, method, texts, message):
    with pytest.raises(DataError, match=message):
        getattr(model, method)(texts)


def test_interpolation_ends_at_its_ends(model):
    found = model.interpolate(*TEXTS, steps=4)
    assert len(found) == 4
    assert [found[0], found[-1]] == model.decode(model.encode(TEXTS))
    with pytest.raises(ConfigError, match="steps is 1"):
        model.interpolate(*TEXTS, steps=1)


def test_a_path_goes_through_all_its_stops(model):
    stops = [TEXTS[0], TEXTS[1], TEXTS[0]]
    path = model.interpolate(*stops, steps=3)
    assert len(path) == 5 and path[::2] == model.decode(model.encode(stops))
    assert path[1] == path[3] == model.interpolate(*TEXTS[:2], steps=3)[1]


def test_slerp_keeps_the_length_and_bears_equal_ends():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(slerp(a, b, 0.5), torch.full((1, 2), 0.5**0.5))
    torch.testing.assert_close(slerp(a, b, 1 / 3).norm(), torch.tensor(1.0))
    torch.testing.assert_close(slerp(a, a, 0.3), a)


# --- the encoder


class OtherBackbone(TinyBackbone):
    def __init__(self):
        super().__init__()
        self.fingerprint = "0123456789abcdef"


def test_another_encoder_is_refused(monkeypatch):
    model = tiny_model()
    with pytest.raises(
        BackboneError, match=r"tiny \(0123456789abcdef\) is not the one of this model, tiny layer 0"
    ) as caught:
        model.use_backbone(OtherBackbone())
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(pipeline, "open_backbone", lambda *_: OtherBackbone())
    with pytest.raises(BackboneError, match="is not the one of this model"):
        model.encode(TEXTS)


# --- load and save


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_save_and_load(tmp_path, precision):
    model = tiny_model()
    model.record = {"data": {"texts": 7}}
    model.save(tmp_path / "m", precision)
    again = TextDiffusion.load(tmp_path / "m", "cpu")
    assert (again.config, again.record, again.backbone_fingerprint) == (
        model.config, model.record, model.backbone_fingerprint,
    )  # fmt: skip
    assert not any(parameter.requires_grad for parameter in again.autoencoder.parameters())
    if precision == "float32":
        assert again.sample(2) == model.sample(2)
        assert again.interpolate(*TEXTS, steps=2) == model.interpolate(*TEXTS, steps=2)
    else:
        assert len(again.sample(2)) == 2


def test_models_are_found_by_name_by_folder_and_by_run(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path / "checkpoints")
    assert shipped_models() == {}
    tiny_model().save(tmp_path / "checkpoints" / "small")
    tiny_model().save(tmp_path / "run" / "model")
    (tmp_path / "checkpoints" / "notes").mkdir()
    assert shipped_models() == {"small": tmp_path / "checkpoints" / "small"}
    assert find_model("small") == tmp_path / "checkpoints" / "small"
    assert find_model(tmp_path / "run") == find_model(tmp_path / "run" / "model") == tmp_path / "run" / "model"
    with pytest.raises(CheckpointError, match=r"no model 'large': give a folder, or a shipped name \(small\)"):
        TextDiffusion.load("large")
    with pytest.raises(CheckpointError, match=r"holds no model \(config.json is missing\).*\(small\)"):
        TextDiffusion.load(tmp_path)


@pytest.mark.parametrize("lost", ["config", "backbone"])
def test_a_checkpoint_of_something_else(tmp_path, lost):
    from textcosm.checkpoint import load_states, save_states

    tiny_model().save(tmp_path / "m")
    found = load_states(tmp_path / "m")
    del found.metadata[lost]
    save_states(tmp_path / "m", found.states, found.metadata, files=found.files)
    with pytest.raises(CheckpointError, match=f"is not a whole model .*{lost}") as caught:
        TextDiffusion.load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_weights_of_other_sizes_are_named(tmp_path):
    from textcosm.checkpoint import load_states, save_states

    tiny_model().save(tmp_path / "m")
    found = load_states(tmp_path / "m")
    found.metadata["config"]["denoiser"]["depth"] = 3
    save_states(tmp_path / "m", found.states, found.metadata, files=found.files)
    with pytest.raises(CheckpointError, match=r"\(denoiser\) lacks .* tensor"):
        TextDiffusion.load(tmp_path / "m")


# --- the public names


def test_public_names_are_a_dozen_and_lead_somewhere():
    assert len(textcosm.__all__) <= 13
    for name in textcosm.__all__:
        assert getattr(textcosm, name) is not None
    assert textcosm.TextDiffusion is TextDiffusion and textcosm.Config is Config
    assert set(textcosm.__all__) <= set(dir(textcosm))
    with pytest.raises(AttributeError, match="has no attribute 'Tokeniser'; it has"):
        _ = textcosm.Tokeniser


# --- precision


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_lower_precision_writes_and_is_not_saved(precision, tmp_path):
    from textcosm.nn.precision import is_able

    model = tiny_model()
    note = model.use_precision(precision)
    assert len(model.sample(2, steps=2)) == 2
    if not is_able(model.device, precision):
        assert "float32 is used" in (note or "") and model.precision == "float32"
        return
    assert note is None and model.precision == precision and model.use_precision(precision) is None
    with pytest.raises(ConfigError, match=f"computes in {precision} already: load it anew for float32"):
        model.use_precision("float32")
    with pytest.raises(ConfigError, match="cannot be saved: load it anew"):
        model.save(tmp_path / "model")


def test_passes_that_cannot_be_compiled_stay_plain(monkeypatch):
    model = tiny_model()
    wanted = model.sample(2, steps=2)
    assert "compiled passes gain nothing on this cpu: plain ones are used" in (model.use_compiled() or "")
    assert model.sample(2, steps=2) == wanted

    def broken(denoiser, **options):
        def call(*given):
            raise RuntimeError("no compiler")

        denoiser._compiled_call_impl = call

    monkeypatch.setattr(TextDiffusion, "device", torch.device("cuda"), raising=True)
    monkeypatch.setattr(Denoiser, "compile", broken)
    assert "torch.compile fails on this machine" in (model.use_compiled() or "") and not model.compiled
    monkeypatch.undo()
    assert model.sample(2, steps=2) == wanted


@pytest.mark.gpu
def test_a_graph_of_a_pass_writes_what_plain_passes_write():
    model = tiny_model().to("cuda")
    wanted = [model.sample(n, steps=3) for n in (1, 4)]
    assert model.use_compiled() is None and model.compiled
    assert [model.sample(n, steps=3) for n in (1, 4)] == wanted


# --- the tokens of new texts


def test_new_texts_are_written_in_the_tokens_of_the_training_texts():
    model = tiny_model()
    free = model.sample(8, steps=2, seed=1)
    special = model.tokenizer.special
    frames = {special.start, special.end, special.pad}
    seen = model.encode(TEXTS) is not None and model.tokenizer.tokenize(TEXTS, 24).tokens.unique().tolist()
    model.autoencoder.form_head.of_token[seen] = 0.5
    model = replace(model)
    assert model.scored_tokens == len({*seen, *frames}) < model.autoencoder.token_head.out_features
    latents = torch.randn(6, *model.normaliser.shape)
    chosen, _ = model._decode(latents, among=model._words)
    logits = model.autoencoder.token_logits(model.autoencoder.decompress(model.normaliser.denormalise(latents)))
    others = [t for t in range(logits.shape[-1]) if t not in {*seen, *frames}]
    assert torch.equal(chosen, logits.index_fill(-1, torch.tensor(others), -torch.inf).argmax(-1))
    assert model.sample(8, steps=2, seed=1) != free and model.decode(latents) == model.tokenizer.detokenize(*model._decode(latents))


def test_bfloat16_runs_under_autocast_and_gives_float32(monkeypatch):
    from textcosm.nn import precision

    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    model = tiny_model()
    model.use_precision("bfloat16")
    *_, last = model._walk(slice(0, 2), {"steps": 2})([0, 1])
    assert model.precision == "bfloat16" and last.clean.dtype == torch.float32


def test_of_a_long_context_only_what_stands_around_the_answer_is_read():
    whole = tiny_model(source_length=40)
    near = tiny_model(source_length=40)
    near.config = replace(near.config, source=replace(near.config.source, context_words=4))
    source = "the cat | We lost. " + "It was sad and very late. " * 12 + "So the cat ran."
    assert whole.cut_sources([source]) == 1 and near.cut_sources([source]) == 0
    assert near.sample(source=[source], seed=3) == whole.sample(source=["the cat | So the cat ran."], seed=3)
    assert near.sample(source=[source], seed=3) != whole.sample(source=[source], seed=3)


# --- words that agree


def agreement(model: TextDiffusion, tokens: torch.Tensor) -> float:
    """How much likelier each token is after the one before than anywhere, in nats a token."""
    assert model.ngrams is not None
    last, token = tokens[:, :-1], tokens[:, 1:]
    return float(model.ngrams.follow(torch.full_like(last, NONE), last, token)[0].mean())


def test_words_agree_with_their_neighbours_where_it_is_asked_for(model):
    plain = model.sample(6, steps=3)
    assert model.sample(6, steps=3, lm_weight=0) == replace(model, ngrams=None).sample(6, steps=3) == plain
    agreed = model.sample(6, steps=3, lm_weight=50.0)
    assert model.sample(2, steps=3, lm_weight=50.0, batch_size=1) == agreed[:2] != plain[:2]
    latents = torch.randn(6, *model.normaliser.shape)
    alone, together = (model._decode(latents, lm_weight=weight)[0] for weight in (0.0, 50.0))
    assert agreement(model, together) > agreement(model, alone) and torch.equal(alone, model._decode(latents)[0])
    own = replace(model, config=replace(model.config, sampler=replace(model.config.sampler, lm_weight=50.0)))
    assert own.sample(6, steps=3) == agreed and own.sample(6, steps=3, lm_weight=0) == plain
    assert list(own.trace(6, steps=3))[-1].texts == agreed


def test_what_is_given_of_a_text_is_left_to_it(model):
    filled = model.infill("The dog ____ home.", steps=3, lm_weight=50.0, length=2)[0]
    assert filled.text.startswith("The dog ") and filled.text.endswith(" home.")
    assert model.rewrite(TEXTS, 0, lm_weight=50.0) == model.rewrite(TEXTS, 0)
    assert model.rewrite(TEXTS, 1, steps=3, lm_weight=50.0) != model.rewrite(TEXTS, 1, steps=3)


def test_n_grams_are_saved_with_the_model(model, tmp_path):
    model.save(tmp_path / "model", "int8")
    again = TextDiffusion.load(tmp_path / "model", "cpu")
    for name, table in model.ngrams.state_dict().items():
        assert torch.equal(again.ngrams.state_dict()[name], table)


def test_a_model_without_n_grams_says_so(model):
    with pytest.raises(ConfigError, match=r"lm_weight is 1.0, but this model holds no n-grams .* \(train --stage export\)"):
        replace(model, ngrams=None).sample(1, lm_weight=1.0)
    with pytest.raises(ConfigError, match="lm_weight = -1 is no number from 0 up"):
        model.sample(1, lm_weight=-1)
