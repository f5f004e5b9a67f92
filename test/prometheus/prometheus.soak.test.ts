/** A real Prometheus (Debian's) before metrics, alerts and dashboard: `npm run soak -- metrics`. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { freePort } from "../support/free-port.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { until } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const folder = join(checkout, "deploy/monitoring");

/** An expression's result, as Prometheus' HTTP API tells it. */
interface QueryAnswer {
  readonly status: string;
  readonly error?: string;
  readonly data?: { readonly result: readonly { readonly value: readonly [number, string] }[] };
}

async function promtool(args: readonly string[], input = ""): Promise<void> {
  const { code, text, errorText } = await runCommand("promtool", args, { input });
  assert.equal(code, 0, `promtool ${args.join(" ")}: ${text}${errorText}`);
}

describe("a Prometheus", () => {
  it("takes the alerts, and each fires where its reason lasts and nowhere else", async () => {
    await promtool(["check", "rules", join(folder, "alerts.yml")]);
    await promtool(["test", "rules", join(folder, "alerts.test.yml")]);
  });

  it("scrapes a run, and knows every metric that alerts and dashboard ask for", async () => {
    await using resources = new AsyncDisposableStack();
    const directory = scratchDirectory();
    const [target, own] = [await freePort(), await freePort()];
    const daemon = resources.use(
      await Daemon.start({ args: ["--metrics-addr", `tcp://127.0.0.1:${target}`, "--metrics-containers"] }),
    );
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    await daemon.ok("run", "--rm", "busybox", "true");
    const scraped = await (await fetch(`http://127.0.0.1:${target}/metrics`)).text();
    await promtool(["check", "metrics"], scraped);

    const config = join(directory, "prometheus.yml");
    const scrape = { job_name: "sockerless", static_configs: [{ targets: [`127.0.0.1:${target}`] }] };
    const global = { scrape_interval: "1s", evaluation_interval: "1s" };
    const rules = [join(folder, "alerts.yml")];
    await writeFile(config, JSON.stringify({ global, rule_files: rules, scrape_configs: [scrape] })); // JSON is YAML.
    const at = [`--config.file=${config}`, `--storage.tsdb.path=${directory}/data`];
    const prometheus = spawn("prometheus", [...at, `--web.listen-address=127.0.0.1:${own}`], {
      stdio: "ignore",
    });
    const ended = once(prometheus, "exit");
    resources.defer(async () => {
      prometheus.kill("SIGTERM");
      await ended;
    });
    const ask = async (expression: string): Promise<QueryAnswer> => {
      const url = `http://127.0.0.1:${own}/api/v1/query?query=${encodeURIComponent(expression)}`;
      return (await (await fetch(url)).json()) as QueryAnswer;
    };
    await until(async () => {
      const { data } = await ask("sockerless_backend_up").catch(() => ({ data: undefined }));
      return data?.result[0]?.value[1] === "1" || undefined;
    });

    const { panels } = JSON.parse(await readFile(join(folder, "dashboard.json"), "utf8")) as {
      readonly panels: readonly { readonly targets: readonly { readonly expr: string }[] }[];
    };
    const alerts = await readFile(join(folder, "alerts.yml"), "utf8");
    const expressions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    for (const expression of expressions) {
      const answer = await ask(expression.replaceAll("$__rate_interval", "1m"));
      assert.equal(answer.status, "success", `${expression}: ${answer.error}`);
    }
    const asked = [...expressions, alerts].join("\n").match(/\b(sockerless|nodejs)_[a-z0-9_]+\b/g) ?? [];
    const known = new Set([...scraped.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name));
    for (const name of new Set(asked)) {
      assert.ok(known.has(name) || known.has(name.replace(/_(bucket|sum|count)$/, "")), name);
    }
    const firing = await ask('ALERTS{alertstate="firing"}');
    assert.deepEqual(firing.data?.result, []);
  });
});
