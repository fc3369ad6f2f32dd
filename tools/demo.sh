#!/bin/bash
# demo.sh GRAFT: fine-tunes SmolLM2-135M-Instruct to answer like The Devil's Dictionary. Outputs go to ./demo,
# downloads to the cache. Running it again shows what is there; FRESH=1 trains anew.
set -u
graft=$1
cd "$(dirname "$0")/.." || exit 1
case $graft in "$PWD"/*) graft=${graft#"$PWD"/} ;; esac
out=demo
rank=16 batch=4 length=256 rate=5e-4
wanted=520      # three passes over the training rows
seconds_max=300 # of training; the forecast shortens the run to this
mkdir -p $out

say() { printf '\n== %s\n' "$*"; }
die() { echo "demo: $*" >&2; exit 1; }
# number FILE KEY.KEY: one number of a JSON document.
number() { python3 -c 'import functools, json, sys
print(functools.reduce(dict.get, sys.argv[2].split("."), json.load(open(sys.argv[1]))))' "$1" "$2"; }
calc() { awk "BEGIN { printf(\"$1\", $2) }"; }

[ -x "$graft" ] || die "$graft is not built: run make"
[ "${FRESH:-}" = 1 ] && rm -rf $out/adapter $out/*.json $out/*.txt

say "model and data"
gguf=$(tools/fetch_smollm2.sh) && dictionary=$(tools/fetch_devil.sh) || exit 1
if [ ! -f $out/data/rows ]; then
    tools/devil_to_jsonl.sh "$dictionary" $out/data >$out/rows.tmp || exit 1
    mv $out/rows.tmp $out/data/rows
fi
echo "The Devil's Dictionary: $(cat $out/data/rows)"
echo "a row: $(head -1 $out/data/train.jsonl)"
model=$out/smollm2-4bit
if [ ! -f $model/config.json ]; then
    rm -rf $model
    "$graft" convert --model "$gguf" --mlx-path $model -q || die "converting failed"
else
    echo "$model: already converted"
fi

# What every training command of the demo shares, as typed.
settings="--model $model --data $out/data --train-on assistant --max-seq-length $length --overflow drop
    --batch-size $batch --lora-rank $rank --learning-rate $rate --lr-schedule cosine --warmup 10 --seed 1"

say "plan"
if [ ! -s $out/plan.json ]; then
    "$graft" plan $settings --iters $wanted --json >$out/plan.tmp || die "planning failed"
    mv $out/plan.tmp $out/plan.json
    forecast=$(number $out/plan.json time.seconds)
    iterations=$(calc %d "$forecast > $seconds_max ? $wanted * $seconds_max / $forecast : $wanted")
    [ "$iterations" -lt 20 ] && iterations=20
    echo "$iterations" >$out/iterations.txt
    if [ "$iterations" -lt $wanted ]; then
        "$graft" plan $settings --iters "$iterations" --json >$out/plan.json || die "planning failed"
    fi
fi
iterations=$(cat $out/iterations.txt)
# The forecast of time is the one that the run is measured against, not a second calibration's.
"$graft" plan $settings --iters "$iterations" | grep -v '^time:'
calc "time: %.1f minutes for %d iterations, %d tokens\n" "$(number $out/plan.json time.seconds) / 60, $iterations, $(number $out/plan.json time.tokens)"
[ "$iterations" -lt $wanted ] && echo "shortened from $wanted to $iterations iterations: this machine would need more than $((seconds_max / 60)) minutes"

evaluate() { "$graft" eval --model $model --data $out/data --split test --train-on assistant --max-seq-length $length --overflow drop --json "$@"; }
[ -s $out/before.json ] || { evaluate >$out/before.tmp && mv $out/before.tmp $out/before.json; } || die "evaluating failed"

say "train"
if [ -s $out/seconds.txt ] && [ -f $out/adapter/adapters.safetensors ]; then
    echo "$out/adapter is trained already (make demo FRESH=1 trains it again)"
else
    started=$SECONDS
    resume=
    [ -d $out/adapter/checkpoints ] && resume=--resume
    "$graft" train $settings --iters "$iterations" --steps-per-eval 200 --save-every 100 \
        --adapter-path $out/adapter $resume || exit $?
    echo $((SECONDS - started)) >$out/seconds.txt
    rm -f $out/after.json $out/answers.txt
fi
[ -s $out/after.json ] || { evaluate --adapter-path $out/adapter >$out/after.tmp && mv $out/after.tmp $out/after.json; } || die "evaluating failed"

say "held-out rows, before and after"
for when in before after; do
    calc "%-7s loss %.3f   perplexity %.1f +- %.1f\n" "\"$when\", $(number $out/$when.json loss), $(number $out/$when.json perplexity), $(number $out/$when.json perplexity_stderr)"
done

say "the same prompts, base and adapter"
if [ ! -s $out/answers.txt ]; then
    for word in congress meeting smartphone; do
        echo "Define $word."
        "$graft" generate --model $model --adapter-path $out/adapter --compare --prompt "Define $word." \
            --max-tokens 60 --temp 0.6 --top-p 0.9 --seed 3 2>$out/generate.log || { cat $out/generate.log >&2; exit 1; }
    done >$out/answers.tmp || die "generating failed"
    mv $out/answers.tmp $out/answers.txt
fi
cat $out/answers.txt

say "what it cost"
peak=$(grep -o '"peak_memory_bytes": *[0-9.e+]*' $out/adapter/metrics.jsonl | tail -1 | sed 's/.*: *//')
calc "training  %.1f minutes (forecast %.1f)\n" "$(cat $out/seconds.txt) / 60, $(number $out/plan.json time.seconds) / 60"
calc "memory    %.0f MB at the peak (forecast %.0f MB)\n" "$peak / 1e6, $(number $out/plan.json memory.total) / 1e6"
echo "curve     $out/adapter/loss.svg"

say "use the adapter"
cat <<T
graft       $graft generate --model $model --adapter-path $out/adapter --prompt "Define money."
mlx-lm      mlx_lm.generate --model $model --adapter-path $out/adapter --prompt "Define money."
PEFT        base = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
            model = PeftModel.from_pretrained(base, "$out/adapter")
llama.cpp   $graft export --adapter-path $out/adapter --to gguf --out $out/adapter
            llama-cli -m $gguf --lora $out/adapter/adapter.gguf -p "Define money."
T

say "train on your own data"
cat <<T
Put rows like the one above into mydata/train.jsonl (valid.jsonl and test.jsonl are optional), then:
$graft train --model $model --data mydata --train-on assistant --adapter-path my-adapter
docs/tutorial.md walks through it step by step.
T
