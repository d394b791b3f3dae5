"""An encoder of your own: every letter is a token, and its activation knows the letters around it."""

import string

import tokenizers
import torch
from tokenizers import Regex, models, normalizers, pre_tokenizers

from textcosm.testing import check_backbone
from textcosm.text import SpecialTokens, Tokenizer


class LetterBackbone:
    """What the protocol asks for: six attributes and four methods. Nothing to inherit, nothing to register."""

    def __init__(self, width: int = 64, reach: int = 4):
        self.name, self.width, self.max_tokens, self.reach = "letters", width, 1024, reach
        self.fingerprint = f"letters-{width}-{reach}"  # hash the weights where they come from a file
        signs = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            *string.ascii_lowercase,
            *string.digits,
            *string.punctuation,
        ]
        backend = tokenizers.Tokenizer(models.WordLevel({sign: i for i, sign in enumerate(signs)}, unk_token="[UNK]"))
        backend.add_special_tokens(signs[:5])
        backend.normalizer = normalizers.Lowercase()  # case and spaces are kept beside the tokens, as written forms
        letters = pre_tokenizers.Split(Regex("."), "isolated")
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), letters])
        self.tokenizer = Tokenizer(backend.to_str(), SpecialTokens(start=2, end=3, pad=0, mask=4))
        self.vocab_size = self.tokenizer.vocab_size
        self._table = torch.randn(self.vocab_size, width, generator=torch.Generator().manual_seed(0))

    def tokenize(self, texts, max_length):
        return self.tokenizer.tokenize(texts, max_length)

    def detokenize(self, tokens, forms):
        return self.tokenizer.detokenize(tokens, forms)

    def embeddings(self):
        return self._table

    @torch.no_grad()
    def encode(self, tokens, mask):
        own = self._table[tokens] * mask[..., None]  # zeros at the padding, so that no text feels it
        window = torch.nn.functional.avg_pool1d(own.mT, 2 * self.reach + 1, stride=1, padding=self.reach).mT
        return own + window


def main():
    backbone = LetterBackbone()
    check_backbone(backbone)
    batch = backbone.tokenize(["Zo ran to NASA's gate.", "Who's there?"], max_length=32)
    print("tokens", tuple(batch.tokens.shape), "activations", tuple(backbone.encode(batch.tokens, batch.mask).shape))
    print(backbone.detokenize(batch.tokens, batch.forms))


if __name__ == "__main__":
    main()
