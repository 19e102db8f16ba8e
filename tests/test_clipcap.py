"""ClipCap's checkpoints: logits and captions of the original, and what is refused by name."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the originals' imports
    torch = pytest.importorskip("torch", reason="the originals need the extra `reference`")
    transformers = pytest.importorskip("transformers", reason="the originals need the extra `reference`")

import jax

import jaxalign as ja
from jaxalign.conversion import clipcap
from jaxalign.errors import JaxalignError
from jaxalign.models.caption_decoder import CaptionDecoder

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
WIDTH, PREFIX, EMBEDDING, BLOCKS = 128, 3, 20, 2
WORDS = ["Ġ", "!", ".", *"abcdefghijklmnopqrstuvwxyz", "Ġa", "Ġb"]
STOP = WORDS.index(".")
MOST = 12


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_positions=24, n_embd=WIDTH, n_layer=BLOCKS, n_head=WIDTH // 64
    )
    return transformers.GPT2LMHeadModel(config).eval()


class Attention(torch.nn.Module):
    """Keys and values by one map, all heads of eight."""

    def __init__(self):
        super().__init__()
        self.to_queries = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.to_keys_values = torch.nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.project = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        heads = lambda y: y.unflatten(-1, (8, -1)).transpose(1, 2)
        keys, values = self.to_keys_values(x).chunk(2, -1)
        seen = torch.nn.functional.scaled_dot_product_attention(
            heads(self.to_queries(x)), heads(keys), heads(values)
        )
        return self.project(seen.transpose(1, 2).flatten(2))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.attn, self.mlp = Attention(), torch.nn.Module()
        self.mlp.fc1 = torch.nn.Linear(WIDTH, 2 * WIDTH)
        self.mlp.fc2 = torch.nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(torch.relu(self.mlp.fc1(self.norm2(x))))


class TransformerMapper(torch.nn.Module):
    def __init__(self, tokens: int = 5):
        super().__init__()
        self.linear = torch.nn.Linear(EMBEDDING, tokens * WIDTH)
        self.prefix_const = torch.nn.Parameter(torch.randn(PREFIX, WIDTH))
        self.transformer = torch.nn.Module()
        self.transformer.layers = torch.nn.ModuleList(Block() for _ in range(BLOCKS))

    def forward(self, x):
        x = self.linear(x).view(len(x), -1, WIDTH)
        x = torch.cat([x, self.prefix_const.expand(len(x), -1, -1)], 1)
        for block in self.transformer.layers:
            x = block(x)
        return x[:, -PREFIX:]


class MlpMapper(torch.nn.Module):
    def __init__(self):
        super().__init__()
        wide = WIDTH * PREFIX
        self.model = torch.nn.Sequential(
            torch.nn.Linear(EMBEDDING, wide // 2), torch.nn.Tanh(), torch.nn.Linear(wide // 2, wide)
        )

    def forward(self, x):
        return self.model(x).view(len(x), PREFIX, WIDTH)


class Original(torch.nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.gpt = gpt2()
        self.clip_project = MlpMapper() if kind == "mlp" else TransformerMapper()
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                scale = 3 * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
                scale = 0.05 if "wte" in name else scale  # or a word follows itself
                is_gain = parameter.ndim == 1 and name.endswith("weight")  # of a LayerNorm
                parameter.copy_(scale * torch.randn_like(parameter) + is_gain)
            self.gpt.transformer.wte.weight[STOP] *= 4  # so that captions end, sooner or later

    @torch.no_grad()
    def logits(self, embeddings, tokens):
        said = self.gpt.transformer.wte(torch.as_tensor(tokens, dtype=torch.long))
        mapped = self.clip_project(torch.as_tensor(embeddings))
        return self.gpt(inputs_embeds=torch.cat([mapped, said], 1)).logits.numpy()

    def log_p(self, embedding, tokens: list[tuple[int, ...]]) -> np.ndarray:
        """[b, V] of what follows each of b beginnings of one length."""
        rows = np.array(tokens, np.int64).reshape(len(tokens), -1)
        logits = self.logits(np.repeat(embedding[None], len(rows), 0), rows)[:, -1].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def greedy(self, embedding) -> list[int]:
        tokens: tuple[int, ...] = ()
        while len(tokens) < MOST and STOP not in tokens:
            tokens += (int(self.log_p(embedding, [tokens])[0].argmax()),)
        return list(tokens)

    def beam_search(self, embedding, beams: int = 5) -> list[int]:
        """ClipCap's rule, spelled out: every beam by every word, ranked by the mean; a stopped one stays."""
        found: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        mean = lambda beam: beam[1] / length(beam[0])
        while len(found[0][0]) < MOST and not all(STOP in tokens for tokens, _ in found):
            going = []
            log_p = self.log_p(embedding, [tokens for tokens, _ in found])
            for (tokens, score), row in zip(found, log_p, strict=True):
                further = [(0, 0.0)] if STOP in tokens else enumerate(row)
                going += [((*tokens, word), score + x) for word, x in further]
            found = sorted(going, key=mean, reverse=True)[:beams]
        tokens = max(found, key=mean)[0]
        return list(tokens[: length(tokens)])


def length(tokens: tuple[int, ...]) -> int:
    return tokens.index(STOP) + 1 if STOP in tokens else len(tokens)


def write_tokenizer(folder: Path, words: list[str] = WORDS) -> Path:
    part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": {word: i for i, word in enumerate(words)}, "merges": []}
    (folder / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "pre_tokenizer": part, "decoder": part, "model": model})
    )
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """By mapper an original, and its checkpoint with GPT-2's buffers; GPT-2's words lie beside it."""
    folder = tmp_path_factory.mktemp("clipcap")
    write_tokenizer(folder)
    found = {}
    for kind in ("mlp", "transformer"):
        torch.manual_seed(2)
        original = Original(kind)
        buffers = {
            f"gpt.transformer.h.{i}.attn.{name}": torch.ones(1, 1, 24, 24, dtype=torch.bool)
            for i in range(BLOCKS)
            for name in ("bias", "masked_bias")
        }
        torch.save(original.state_dict() | buffers, folder / f"{kind}.pt")
        found[kind] = original, folder / f"{kind}.pt"
    return found


@pytest.fixture(scope="module", params=["mlp", "transformer"])
def both(request, originals):
    original, path = originals[request.param]
    return original, ja.load_captioner(path, normalize=False)


EMBEDDINGS = np.random.default_rng(0).normal(size=(6, EMBEDDING)).astype(np.float32)


def test_logits_are_those_of_the_original(both):
    original, captioner = both
    tokens = np.random.default_rng(1).integers(0, len(WORDS), (6, 7))
    decoder = CaptionDecoder(captioner.config)
    with jax.default_matmul_precision("highest"):
        ours = decoder.apply({"params": captioner.params}, EMBEDDINGS, tokens)
    theirs = original.logits(EMBEDDINGS, tokens)
    assert np.abs(np.asarray(ours) - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("beams", [1, 5])
def test_captions_are_those_of_the_original(both, beams):
    original, captioner = both
    search = original.greedy if beams == 1 else original.beam_search
    expected = [search(embedding) for embedding in EMBEDDINGS]
    assert len({len(tokens) for tokens in expected}) > 1
    assert any(STOP in tokens for tokens in expected)
    captions = captioner.captions(EMBEDDINGS, beams=beams, max_tokens=MOST, batch_size=4)
    assert captions == [text.strip() for text in captioner.vocabulary.decode(expected)]


def changed(originals, tmp_path, change, kind: str = "mlp") -> Path:
    """The checkpoint of `kind` after `change` of its state dict; GPT-2's words lie beside it."""
    state = dict(originals[kind][0].state_dict())
    change(state)
    torch.save(state, tmp_path / "changed.pt")
    write_tokenizer(tmp_path)
    return tmp_path / "changed.pt"


def refused(path, message: str, **given) -> None:
    with pytest.raises(JaxalignError, match=message) as error:
        ja.load_captioner(path, **{"normalize": False, **given})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("gpt.transformer.extra", (2,), "1 left over: gpt.transformer.extra"),
        ("clip_project.model.4.weight", (2, 2), "1 left over: clip_project.model.4.weight"),
        ("gpt.transformer.h.1.ln_1.bias", (5,), "1 misshapen: gpt.transformer.h.1.ln_1.bias is"),
        ("clip_project.model.2.bias", (130,), "has 130 numbers; expected a multiple of 128"),
        ("gpt.transformer.wte.weight", (31, 96), "lm_head.weight is not gpt.transformer.wte.weight"),
        ("gpt.lm_head.weight", (31, 128), "lm_head.weight is not gpt.transformer.wte.weight"),
        ("gpt.transformer.wpe.weight", (3, 128), "leaves none of 3 positions"),
        ("clip_project.prefix_const", (3, 128), "none of ClipCap's|do not fit"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(originals, tmp_path, name, shape, message):
    path = changed(originals, tmp_path, lambda state: state.update({name: torch.zeros(shape)}))
    refused(path, message)


def test_a_width_that_tells_no_number_of_heads_is_refused(originals, tmp_path):
    def narrow(state):
        state.pop("gpt.lm_head.weight")
        state["gpt.transformer.wte.weight"] = torch.zeros(31, 96)

    refused(changed(originals, tmp_path, narrow), "GPT-2 is 96 wide; expected a multiple of 64")


def test_what_is_missing_is_named(originals, tmp_path):
    refused(changed(originals, tmp_path, lambda state: state.pop("gpt.transformer.ln_f.bias")), "1 missing")
    without = changed(originals, tmp_path, lambda state: state.pop("gpt.transformer.wpe.weight"))
    refused(without, "gpt.transformer.wpe.weight is missing; expected 2 axes")


def test_a_head_of_its_own_is_not_asked_for(originals, tmp_path):
    path = changed(originals, tmp_path, lambda state: state.pop("gpt.lm_head.weight"))
    expected = ja.load_captioner(originals["mlp"][1], normalize=False).captions(EMBEDDINGS, max_tokens=4)
    assert ja.load_captioner(path, normalize=False).captions(EMBEDDINGS, max_tokens=4) == expected


def test_nothing_is_guessed_of_what_the_file_does_not_say(originals, tmp_path, monkeypatch):
    path = originals["transformer"][1]
    refused(path, "length one; pass normalize", normalize=None)
    alone = tmp_path / "alone.pt"
    alone.write_bytes(path.read_bytes())
    monkeypatch.setattr(clipcap, "find_cached", lambda repository, name: None)
    refused(alone, "neither beside it nor in the hub's cache")
    refused(alone, "is not there", tokenizer=tmp_path / "none.json")
    folder = tmp_path / "words"
    folder.mkdir()
    write_tokenizer(folder, WORDS[:-1])
    refused(alone, r"has ids up to 29, the decoder 31 tokens", tokenizer=folder)
    write_tokenizer(folder, [word.replace(".", "?") for word in WORDS])
    refused(alone, r"has no token '\.'", tokenizer=folder / "tokenizer.json")
    monkeypatch.setattr(clipcap, "find_cached", lambda repository, name: path.parent / name)
    assert ja.load_captioner(alone, normalize=True).normalize


def test_embeddings_of_another_length_or_width(originals):
    raw, unit = (ja.load_captioner(originals["mlp"][1], normalize=value) for value in (False, True))
    short = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    assert unit.captions(EMBEDDINGS, max_tokens=6) == raw.captions(short, max_tokens=6)
    with pytest.raises(JaxalignError, match="19 wide, and the captioner mlp was trained on 20"):
        raw.captions(EMBEDDINGS[:, 1:])
    with pytest.raises(JaxalignError, match="beams is 0; expected an integer of 1 or more"):
        raw.captions(EMBEDDINGS, beams=0)


def test_a_captioner_is_no_model_and_a_model_no_captioner(originals, tmp_path):
    with pytest.raises(JaxalignError, match="of no known formats"):
        ja.load(originals["mlp"][1])
    torch.save({"visual.proj": torch.zeros(2, 2)}, tmp_path / "model.pt")
    refused(tmp_path / "model.pt", "which are none of ClipCap's")
    refused(tmp_path / "nothing.pt", "there is no captioner")
    refused(tmp_path, "expected a ClipCap checkpoint")
