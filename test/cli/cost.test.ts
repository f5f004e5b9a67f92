/** `sockerless cost`, of a daemon of this machine at prices of one's own, and of what has none. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { duringTests } from "../support/during-tests.ts";

interface ToldCosts {
  readonly costs: readonly {
    readonly name: string;
    readonly containers: number;
    readonly running: number;
    readonly seconds: number;
    readonly perHour: number;
    readonly isLeast: boolean;
  }[];
}

describe("cost", () => {
  const daemon = duringTests(() => Daemon.startWithBusybox());
  let prices: string;

  before(async () => {
    prices = join(daemon.directory, "prices.json");
    await writeFile(
      prices,
      JSON.stringify({
        ...{ date: "2026-01-02", of: "our machine", currency: "EUR" },
        ...{ perVcpuHour: 1, perGibHour: 0.5 },
      }),
    );
  });

  const cost = (...args: string[]): Promise<CommandResult> =>
    runCommand(join(checkout, "bin/sockerless"), ["cost", "--host", daemon.host, ...args]);

  it("is told of what runs and of what was removed, by container and by label", async () => {
    const size = ["--cpus=0.5", "--memory=512m"];
    await daemon.ok("run", "--detach", "--name=runs", "--label=team=x", ...size, "busybox", "sleep", "1000");
    await daemon.ok("run", "--rm", "--name=gone", "--label=team=x", "busybox", "sleep", "1");
    await daemon.ok("create", "--name=never", "busybox");
    const told = await cost("--prices", prices, "--since=2020-01-01", "--format=json");
    assert.equal(told.errorText, "");
    const { costs } = JSON.parse(told.text) as ToldCosts;
    const byName = costs.toSorted((one, other) => one.name.localeCompare(other.name));
    assert.deepEqual(
      byName.map(({ name, running, perHour, isLeast }) => [name, running, perHour, isLeast]),
      [
        ["gone", 0, 0, true],
        ["runs", 1, 0.75, false],
      ],
    );
    assert.ok((byName[1]?.seconds ?? 0) > 0);
    const table = await cost("--prices", prices, "--since=2020-01-01", "--label=team");
    assert.match(table.text, /^x +2 +1 .* ≥ \d+\.\d{4} EUR +0\.7500 EUR$/m);
    assert.match(table.text, /at the prices of 2026-01-02 for our machine/);
  });

  it("is not told without prices, or with a file that has none", async () => {
    const without = await cost();
    assert.deepEqual([without.code, without.text], [1, ""]);
    assert.match(without.errorText, /the prices of this machine are not known here: name them with --prices/);
    const never = await cost("--prices", prices, "--since=soon");
    assert.match(never.errorText, /soon is no ISO date or time/);
    await writeFile(prices, "{}");
    const wrong = await cost("--prices", prices);
    assert.match(wrong.errorText, /prices\.json: date: /);
  });
});
