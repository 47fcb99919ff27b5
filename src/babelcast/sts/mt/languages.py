"""What the models for many languages call them: NLLB's codes are FLORES-200's, MADLAD's are BCP 47's."""

from __future__ import annotations

from itertools import permutations

# tag → FLORES-200; the languages that both models have and that are worth offering for speech
FLORES = {
    "af": "afr_Latn", "am": "amh_Ethi", "ar": "arb_Arab", "az": "azj_Latn", "be": "bel_Cyrl", "bg": "bul_Cyrl",
    "bn": "ben_Beng", "bs": "bos_Latn", "ca": "cat_Latn", "cs": "ces_Latn", "cy": "cym_Latn", "da": "dan_Latn",
    "de": "deu_Latn", "el": "ell_Grek", "en": "eng_Latn", "eo": "epo_Latn", "es": "spa_Latn", "et": "est_Latn",
    "eu": "eus_Latn", "fa": "pes_Arab", "fi": "fin_Latn", "fr": "fra_Latn", "ga": "gle_Latn", "gl": "glg_Latn",
    "gu": "guj_Gujr", "he": "heb_Hebr", "hi": "hin_Deva", "hr": "hrv_Latn", "hu": "hun_Latn", "hy": "hye_Armn",
    "id": "ind_Latn", "is": "isl_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ka": "kat_Geor", "kk": "kaz_Cyrl",
    "km": "khm_Khmr", "kn": "kan_Knda", "ko": "kor_Hang", "lt": "lit_Latn", "lv": "lvs_Latn", "mk": "mkd_Cyrl",
    "ml": "mal_Mlym", "mr": "mar_Deva", "ms": "zsm_Latn", "my": "mya_Mymr", "ne": "npi_Deva", "nl": "nld_Latn",
    "no": "nob_Latn", "pl": "pol_Latn", "pt": "por_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "sk": "slk_Latn",
    "sl": "slv_Latn", "sq": "als_Latn", "sr": "srp_Cyrl", "sv": "swe_Latn", "sw": "swh_Latn", "ta": "tam_Taml",
    "te": "tel_Telu", "th": "tha_Thai", "tl": "tgl_Latn", "tr": "tur_Latn", "uk": "ukr_Cyrl", "ur": "urd_Arab",
    "vi": "vie_Latn", "zh": "zho_Hans", "zu": "zul_Latn",
}  # fmt: skip
_FLORES_OF_TAG = {"zh-tw": "zho_Hant", "zh-hk": "yue_Hant", "zh-hant": "zho_Hant", "nn": "nno_Latn", "yue": "yue_Hant"}
_MADLAD = {"fil": "tl", "nb": "no", "iw": "he"}
_ALIASES = {"nb": "no", "fil": "tl", "iw": "he"}


def many_pairs() -> tuple[tuple[str, str], ...]:
    """Every ordered pair of the languages above."""
    return tuple(permutations(FLORES, 2))


def flores(tag: str) -> str | None:
    """FLORES-200's code for a tag; None for a language that is not offered."""
    low = tag.lower()
    code = low.split("-")[0]
    return _FLORES_OF_TAG.get(low) or FLORES.get(_ALIASES.get(code, code))


def madlad(tag: str) -> str | None:
    """MADLAD's code for a tag (the ``xx`` of ``<2xx>``); None for a language that is not offered."""
    code = tag.split("-")[0].lower()
    code = _MADLAD.get(code, code)
    return code if code in FLORES else None
