"""Local initialisation: the autoencoder starts as a linear code of neighbouring tokens, read off the data.

As published, training first has to discover which latent holds which tokens, and that is what is slow. Here slot j
starts out attending to the ``L / N`` positions around its place, one group of heads for each offset, and the
decompressor to the slot that holds each position; values start as the directions of the activations that explain most
of them and of their tokens. The architecture does not change and everything stays trainable.

Position codes are pairs ``cos(w p), sin(w p)`` with frequencies spread evenly over (0, pi]: codes of different whole
positions are orthogonal, and turning each pair by ``w * shift`` moves a code along the text, which is how a head looks
at an offset.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.perceiver import Perceiver

SHARPNESS = 2.0
"""Gain of the per-head query norm: how strictly a head keeps to its offset at the start."""
TOKEN_CODE_SIZE = 4.0
"""Size of the position codes beside the activations (of size 1 per feature); large, for sharp routing."""
QUERY_CODE_SIZE = 2.0
"""The same in the decompressor, where the code is also an error of the first estimate; a compromise."""
HEAD_SCALE = 80.0
"""Of the token head: the cross-entropy of the linear code is lowest about here. Too small a head makes training
inflate the activations, against the alignment loss."""


@torch.no_grad()
def initialise_locally(
    autoencoder: Autoencoder,
    activations: Float[Tensor, "batch length width"],
    mask: Bool[Tensor, "batch length"],
    tokens: Int[Tensor, "batch length"],
    embeddings: Float[Tensor, "vocab width"],
    generator: torch.Generator,
) -> None:
    """Start ``autoencoder`` as a local linear code of standardised ``activations`` (some thousand texts suffice).

    ``embeddings`` are the backbone's frozen input embeddings; they give the token head its first weights.
    """
    config = autoencoder.config
    if not config.decompressor_depth:
        autoencoder.token_head.weight.copy_(_token_head(activations[mask], tokens[mask], embeddings))
        return
    if autoencoder.width != len(autoencoder.activation_mean) or autoencoder.latent_width != autoencoder.width:
        raise ConfigError(
            f"autoencoder.init is local, which needs the backbone's width {len(autoencoder.activation_mean)} "
            f"throughout; got width {autoencoder.width}, latent_width {autoencoder.latent_width}: use init published"
        )
    if config.head_width % 2:
        raise ConfigError(f"autoencoder.head_width is {config.head_width}; the local init needs an even number")
    features = activations[mask]
    head = _token_head(features, tokens[mask], embeddings)
    basis = _orthonormal(autoencoder.width, config.head_width, generator)
    offsets = _head_offsets(config.heads, math.ceil(config.max_length / config.num_latents))
    directions = _directions(features, head, offsets, config.head_width)

    codes = _position_codes(torch.arange(config.max_length), config.head_width) @ basis.T
    autoencoder.query_positions.copy_(QUERY_CODE_SIZE * codes)
    nn.init.zeros_(autoencoder.mask_feed_forward.last.weight)
    autoencoder.token_head.weight.copy_(head - head @ basis @ basis.T)

    if config.compresses:
        autoencoder.token_positions.copy_(TOKEN_CODE_SIZE * codes)
        autoencoder.slots.copy_(codes[autoencoder.places])
        _route(autoencoder.compressor, basis, offsets, generator)
    _route(autoencoder.decompressor, basis, -offsets, generator)
    _write_code(autoencoder, directions, basis, generator)
    _calibrate(autoencoder, activations, mask)


def _write_code(
    autoencoder: Autoencoder,
    directions: Float[Tensor, "heads head width"],
    basis: Float[Tensor, "width head"],
    generator: torch.Generator,
) -> None:
    """First layers: head values along ``directions``, turned into the latent beside the position code, and back."""
    rows = directions.flatten(0, 1)
    last = autoencoder.decompressor.blocks()[0]
    if not autoencoder.config.compresses:
        _values(last.context_key_value).copy_(rows)
        return
    first = autoencoder.compressor.blocks()[0]
    outside = torch.eye(len(basis)) - basis @ basis.T
    turned = outside @ torch.randn(len(basis), len(rows), generator=generator)
    turn = _nearest_isometry(turned)
    # Norms see a code beside the signal; these factors undo their shrinking of the signal.
    shrunk_tokens = math.sqrt(1 + TOKEN_CODE_SIZE**2 * basis.shape[1] / 2 / len(basis))
    _values(first.context_key_value).copy_(shrunk_tokens * rows)
    first.out.weight.copy_(turn)
    _values(last.context_key_value).copy_(turn.T)


def _calibrate(autoencoder: Autoencoder, activations: Tensor, mask: Tensor) -> None:
    """Least squares for the decompressor's first output projection: from what its heads read to the activations."""
    first = autoencoder.decompressor.blocks()[0]
    read: list[Tensor] = []
    hook = first.out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    autoencoder.decompress(autoencoder.compress(activations, mask))
    hook.remove()
    inputs = read[0][:, : mask.shape[1]][mask]
    codes = autoencoder.query_positions[: mask.shape[1]].expand(len(mask), -1, -1)[mask]
    gram = inputs.T @ inputs / len(inputs)
    ridge = 1e-3 * gram.diagonal().mean() * torch.eye(len(gram))
    weights = torch.linalg.solve(gram + ridge, inputs.T @ (activations[mask] - codes) / len(inputs))
    first.out.weight.copy_(weights.T)


def _nearest_isometry(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int(torch.linalg.matrix_rank(matrix))
    return left[:, :rank] @ right[:rank]


def _route(
    stack: Perceiver, basis: Float[Tensor, "width head"], offsets: Int[Tensor, " heads"], generator: torch.Generator
) -> None:
    """Every layer's heads look along the position code at their offset; only the first layer writes much."""
    head_width = basis.shape[1]
    shifted = torch.cat([_shift(float(offset), head_width) @ basis.T for offset in offsets])
    exact = basis.T.repeat(len(offsets), 1)
    half_step = (_shift(0.5, head_width) @ basis.T).repeat(len(offsets), 1)
    for index, layer in enumerate(stack.blocks()):
        layer.query.weight.copy_(shifted)
        _keys(layer.context_key_value).copy_(exact)
        # Half a step off, so that a matching context vector wins over the queries' own stream, and that wins over
        # context at other offsets: a head with nothing to read there reads zeros.
        _keys(layer.self_key_value).copy_(half_step)
        layer.head_query_norm.weight.fill_(SHARPNESS)
        if index == 0:
            _values(layer.self_key_value).zero_()
        else:
            _draw_small(layer.out, generator)
        _draw_small(layer.feed_forward.last, generator)


def _draw_small(linear: nn.Linear, generator: torch.Generator) -> None:
    nn.init.normal_(linear.weight, std=0.2 * linear.in_features**-0.5, generator=generator)


def _keys(projection: nn.Linear) -> Tensor:
    return projection.weight[: len(projection.weight) // 2]


def _values(projection: nn.Linear) -> Tensor:
    return projection.weight[len(projection.weight) // 2 :]


def _position_codes(positions: Tensor, features: int) -> Float[Tensor, "positions features"]:
    """``(cos, sin)`` pairs, each pair of size 1."""
    angles = positions[:, None].float() * _frequencies(features)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)


def _frequencies(features: int) -> Float[Tensor, " pairs"]:
    pairs = features // 2
    return math.pi * (torch.arange(pairs) + 0.5) / pairs


def _shift(offset: float, features: int) -> Float[Tensor, "features features"]:
    """The rotation that turns the code of p into the code of p + offset."""
    angles = offset * _frequencies(features)
    blocks = [torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]]) for a in angles]
    return torch.block_diag(*blocks)


def _head_offsets(heads: int, span: int) -> Int[Tensor, " heads"]:
    """Offsets of a slot's ``span`` positions from its place, dealt to the heads as evenly as they go."""
    return torch.arange(heads) * span // heads - span // 2


def _token_head(features: Tensor, tokens: Tensor, embeddings: Tensor) -> Float[Tensor, "vocab width"]:
    """Ridge regression from standardised activations to normalised embeddings; a token's row is its embedding seen
    through it, scaled so that the softmax is confident but not sure."""
    unit = nn.functional.normalize(embeddings - embeddings.mean(0), dim=-1)
    targets = unit[tokens]
    gram = features.T @ features / len(features)
    ridge = 0.01 * torch.eye(len(gram))
    weights = torch.linalg.solve(gram + ridge, features.T @ targets / len(features))
    return HEAD_SCALE * unit @ weights.T


def _directions(features: Tensor, head: Tensor, offsets: Tensor, head_width: int) -> Float[Tensor, "heads head width"]:
    """For each head, orthonormal directions: heads that share an offset share out the leading ones in turn.

    Heads wider together than the activations have nothing left to share out: their last rows are zeros.
    """
    gram = features.T @ features / len(features)
    tokenward = head.T @ head / len(head)
    # Directions that matter to tokens weigh more: the metric of the token head beside that of the activations.
    root = _root(tokenward / tokenward.diagonal().mean() + torch.eye(len(gram)))
    leading = torch.linalg.inv(root) @ torch.linalg.eigh(root @ gram @ root).eigenvectors.flip(-1)
    heads = torch.zeros(len(offsets), head_width, len(gram))
    for head_index, offset in enumerate(offsets):
        sharing = (offsets == offset).nonzero()[:, 0]
        rank = int((sharing == head_index).nonzero())
        own = torch.linalg.qr(leading[:, : head_width * len(sharing)]).Q
        taken = own[:, rank :: len(sharing)].T
        heads[head_index, : len(taken)] = taken
    return heads


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(1e-6).sqrt() @ vectors.T


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Float[Tensor, "rows columns"]:
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator)).Q
