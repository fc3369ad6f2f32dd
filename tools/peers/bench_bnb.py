"""The steps of `graft bench train --peer bnb`: QLoRA in PyTorch + PEFT with bitsandbytes on the CPU. All linears but the
head are quantized to NF4 with double quantization from the dequantized base, so the losses are near graft's, not equal.
usage: bench_bnb.py FOLDER (see bench_common.py)
"""
import bench_common
import bench_torch


def quantized(model, dtype):
    import bitsandbytes as bnb
    import torch

    for parent in list(model.modules()):
        for name, linear in list(parent.named_children()):
            if not isinstance(linear, torch.nn.Linear) or name == "lm_head":
                continue
            four = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=linear.bias is not None,
                                     compute_dtype=dtype, compress_statistics=True, quant_type="nf4")
            four.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4",
                                            compress_statistics=True)
            if linear.bias is not None:
                four.bias = linear.bias
            setattr(parent, name, four.to("cpu"))
    return model


def main():
    import bitsandbytes
    import torch

    run = bench_common.Run()
    torch.set_num_threads(run["threads"])
    dtype = torch.float32 if run["compute"] == "fp32" else torch.bfloat16
    model = bench_torch.adapted(run, quantized(bench_torch.load(run, dtype), dtype))
    program = f"bitsandbytes {bitsandbytes.__version__} NF4 + PEFT, torch {torch.__version__}"
    bench_common.measure(run, bench_torch.stepper(run, model), program, f"nf4, {str(dtype)[6:]}")


if __name__ == "__main__":
    main()
