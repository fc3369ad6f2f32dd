"""Writes tests/golden/recipes.txt: the bits that mlx-lm's mixed recipes give to every module.

usage: python tools/make_recipe_golden.py (from the repository's root; needs mlx-lm)
"""
import importlib.metadata as md
from types import SimpleNamespace

from mlx_lm.convert import QUANT_RECIPES, mixed_quant_predicate_builder

LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj"]

with open("tests/golden/recipes.txt", "w") as out:
    out.write(f"# tools/make_recipe_golden.py with mlx-lm {md.version('mlx-lm')}\n"
              "# RECIPE LAYERS bits of embed_tokens and lm_head | RECIPE LAYERS MODULE bits of it in every block\n")
    for recipe in QUANT_RECIPES:
        for layers in (1, 2, 5, 8, 16, 24, 30, 33, 80):
            names = [f"model.layers.{i}.{m}" for i in range(layers) for m in LINEARS]
            model = SimpleNamespace(named_modules=lambda names=names: [(n, None) for n in names], layers=range(layers))
            choose = mixed_quant_predicate_builder(recipe, model, 64)
            bits = lambda path: str(choose(path, None)["bits"])
            out.write(f"{recipe} {layers} {bits('model.embed_tokens')}{bits('lm_head')}\n")
            for m in LINEARS:
                out.write(f"{recipe} {layers} {m} {''.join(bits(f'model.layers.{i}.{m}') for i in range(layers))}\n")
