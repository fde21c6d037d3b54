"""genai.py FOLDER: a folder with genai_config.json. For every line { ids, steps } it reads the tokens into an empty cache,
generates, and answers { prefillMs, stepMs: [...] } on a line."""
import json
import sys
import time

import onnxruntime_genai as og

model = og.Model(sys.argv[1])
print('{"ready":true}', flush=True)
for line in sys.stdin:
    request = json.loads(line)
    ids, steps = request["ids"], request["steps"]
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=len(ids) + steps + 2, do_sample=False)
    generator = og.Generator(model, params)
    start = time.perf_counter()
    generator.append_tokens(ids)
    generator.generate_next_token()
    times = [time.perf_counter()]
    for _ in range(steps):
        generator.generate_next_token()
        times.append(time.perf_counter())
    spans = [1000 * (b - a) for a, b in zip(times, times[1:])]
    print(json.dumps({"prefillMs": 1000 * (times[0] - start), "stepMs": spans}), flush=True)
