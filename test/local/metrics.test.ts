/** The metrics address of a daemon, read by raw HTTP. */
import assert from "node:assert/strict";
import { request as tlsRequest } from "node:https";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { makeCertificates } from "../support/certificates.ts";
import { duringTests } from "../support/during-tests.ts";
import { askMetrics, seriesOf, sumOf } from "../support/metrics.ts";
import { findShim, processOf } from "../support/processes.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { inSoak } from "../support/soak.ts";

describe("the metrics of a daemon", () => {
  const socket = join(scratchDirectory(), "metrics.sock");
  const daemon = duringTests(() => Daemon.startWithBusybox({ args: ["--metrics-addr", `unix://${socket}`] }));

  it("tell containers, starts, requests, streams, images, memory and the state of all processes", async () => {
    const id = (await daemon.ok("run", "--detach", "busybox", "sleep", "1000")).trim();
    assert.equal(await daemon.ok("exec", id, "echo", "hello"), "hello");
    await daemon.docker("exec", "nobody", "true");
    await daemon.docker("run", "busybox", "no-such-command");
    // The log line of a start, which is its report too, comes behind the answer.
    const text = await until(async () => {
      const { text: scraped } = await askMetrics(socket, "/metrics");
      const starts = sumOf(scraped, "sockerless_container_start_duration_seconds_count");
      return starts >= 2 ? scraped : undefined;
    });
    const expected: readonly (readonly [string, Record<string, string>, number])[] = [
      ["sockerless_containers", { state: "running" }, 1],
      ["sockerless_containers", { state: "created" }, 1],
      ["sockerless_containers", { state: "paused" }, 0],
      ["sockerless_container_start_duration_seconds_count", { backend: "local", outcome: "started" }, 1],
      ["sockerless_container_start_duration_seconds_count", { backend: "local", outcome: "failed" }, 1],
      ["sockerless_http_requests_total", { route: "/containers/{name}/start", status: "204" }, 1],
      ["sockerless_http_requests_total", { route: "/containers/{name}/json", status: "404" }, 1],
      ["sockerless_backend_up", {}, 1],
    ];
    for (const [name, labels, value] of expected) {
      assert.ok(sumOf(text, name, labels) >= value, `${name} ${JSON.stringify(labels)}:\n${text}`);
    }
    assert.equal(sumOf(text, "sockerless_containers", { state: "running" }), 1);
    assert.deepEqual(
      seriesOf(text, "sockerless_container_cpu_seconds_total"),
      [],
      "nobody has asked for them",
    );
    assert.ok(
      sumOf(text, "sockerless_container_start_phase_duration_seconds_count", { phase: "launch" }) > 0,
      text,
    );
    for (const [name, labels] of [
      ["sockerless_objects", { kind: "image" }],
      ["sockerless_image_layers_bytes", {}],
      ["sockerless_state_database_bytes", {}],
      ["sockerless_state_disk_available_bytes", {}],
      ["sockerless_state_write_duration_seconds_count", { outcome: "written" }],
      ["process_resident_memory_bytes", { process: "frontend" }],
      ["process_resident_memory_bytes", { process: "backend" }],
      ["nodejs_eventloop_lag_p99_seconds", { process: "frontend" }],
      ["nodejs_eventloop_lag_p99_seconds", { process: "backend" }],
      ...["supervisor", "frontend", "backend", "host"].map(
        (program) => ["sockerless_program_memory_bytes", { program }] as const,
      ),
    ] as const) {
      assert.ok(sumOf(text, name, labels) > 0, `${name} ${JSON.stringify(labels)}:\n${text}`);
    }
    await daemon.ok("rm", "--force", id);
  });

  it("are in Prometheus' format: each has one help text and one type, before all its samples", async () => {
    const { type, text } = await askMetrics(socket, "/metrics");
    assert.equal(type, "text/plain; version=0.0.4; charset=utf-8");
    const helps = [...text.matchAll(/^# HELP (\S+) \S+/gm)].map(([, name]) => name);
    const types = [...text.matchAll(/^# TYPE (\S+) \S+/gm)].map(([, name]) => name);
    assert.deepEqual(helps, types);
    assert.equal(new Set(helps).size, helps.length);
    let family = "";
    for (const line of text.split("\n").filter((each) => each !== "")) {
      family = /^# HELP (\S+)/.exec(line)?.[1] ?? family;
      assert.ok(line.startsWith("#") || line.startsWith(family), `${line} stands at ${family}`);
    }
  });

  it("do not grow with what clients ask for", async () => {
    const requestSeries = async (): Promise<string[]> =>
      (await askMetrics(socket, "/metrics")).text
        .split("\n")
        .filter((line) => line.startsWith("sockerless_http_"))
        .map((line) => line.slice(0, line.lastIndexOf(" ")));
    const ask = async (round: string): Promise<void> => {
      for (const path of [`/containers/${round}/json`, `/${round}`, `/v1.51/images/${round}/json`]) {
        await askMetrics(daemon.socket, path);
      }
    };
    await ask("first");
    // A request is counted once it was answered.
    await untilTrue(async () =>
      (await requestSeries()).some((series) => /"\/images\/\{.*"404"/.test(series)),
    );
    const before = await requestSeries();
    await Promise.all(Array.from({ length: 20 }, (_, index) => ask(`other${index}`)));
    assert.deepEqual(await requestSeries(), before);
  });

  it("say that the program lives, and which part is not ready and why", async () => {
    assert.deepEqual(await askMetrics(socket, "/livez"), {
      status: 200,
      type: "text/plain; charset=utf-8",
      text: "ok\n",
    });
    const ready = await until(async () => {
      const answer = await askMetrics(socket, "/readyz");
      return answer.status === 200 ? answer : undefined;
    });
    assert.equal(ready.text, "backend: ok\nstate: ok\nlocal: ok\n");
    for (const [role, part] of [
      ["host", "local"],
      ["backend", "backend"],
    ] as const) {
      const pid = await processOf(daemon, role);
      process.kill(pid, "SIGSTOP");
      try {
        // A busy machine may keep other parts from answering in time, too.
        await untilTrue(async () => {
          const silent = await askMetrics(socket, "/readyz");
          assert.equal(silent.status, 503, silent.text);
          const problems = silent.text.split("\n").filter((line) => line !== "" && !line.endsWith(": ok"));
          return problems.length === 1 && new RegExp(`^${part}: .`).test(problems[0] ?? "");
        });
        assert.equal((await askMetrics(socket, "/livez")).status, 200);
      } finally {
        process.kill(pid, "SIGCONT");
      }
      await untilTrue(async () => (await askMetrics(socket, "/readyz")).status === 200);
    }
  });

  it("say of a path that is none of theirs what there is", async () => {
    const { status, text } = await askMetrics(socket, "/");
    assert.deepEqual([status, text], [404, "there are /metrics, /livez and /readyz\n"]);
  });
});

describe("the metrics of single containers", () => {
  const socket = join(scratchDirectory(), "metrics.sock");
  let daemon: Daemon;
  beforeEach(async () => {
    daemon = await Daemon.startWithBusybox({
      args: ["--metrics-addr", `unix://${socket}`, "--metrics-containers"],
    });
  });
  afterEach(() => daemon.stop());

  it("tell what each uses that runs, and nothing of others", async () => {
    await daemon.ok("create", "--name", "created", "busybox", "true");
    const run = ["run", "--detach", "--memory", "64m", "--name", "busy", "busybox"];
    const id = await daemon.ok(
      ...[...run, "sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1000"],
    );
    const labels = { id, name: "busy" };
    const text = await until(async () => {
      const { text: scraped } = await askMetrics(socket, "/metrics");
      return sumOf(scraped, "sockerless_container_cpu_seconds_total", labels) > 0.05 ? scraped : undefined;
    });
    assert.deepEqual(
      seriesOf(text, "sockerless_container_memory_bytes"),
      seriesOf(text, "sockerless_container_memory_bytes", labels),
    );
    assert.ok(sumOf(text, "sockerless_container_memory_bytes", labels) > 0, text);
    assert.equal(sumOf(text, "sockerless_container_memory_limit_bytes", labels), 64 * 1024 ** 2);
    assert.ok(sumOf(text, "sockerless_container_processes", labels) >= 1, text);
    assert.equal(seriesOf(text, "sockerless_container_network_receive_bytes_total", labels).length, 1);
    assert.equal(sumOf(text, "sockerless_container_unread"), 0);
    await daemon.ok("rm", "--force", "busy");
    const after = (await askMetrics(socket, "/metrics")).text;
    assert.deepEqual(seriesOf(after, "sockerless_container_cpu_seconds_total"), []);
  });

  it("leave out one whose agent is silent, and are told in time", inSoak, async () => {
    for (const name of ["silent", "well"]) {
      await daemon.ok("run", "--detach", "--name", name, "busybox", "sleep", "1000");
    }
    const id = await daemon.ok("inspect", "--format", "{{.Id}}", "silent");
    const pid = findShim(daemon, id) ?? assert.fail("a container that runs has a shim");
    process.kill(pid, "SIGSTOP");
    try {
      await untilTrue(async () => {
        const { text } = await askMetrics(socket, "/metrics");
        const isWellTold = seriesOf(text, "sockerless_container_memory_bytes", { name: "well" }).length === 1;
        const isSilent = seriesOf(text, "sockerless_container_memory_bytes", { name: "silent" }).length === 0;
        return isWellTold && isSilent && sumOf(text, "sockerless_container_unread") === 1;
      });
    } finally {
      process.kill(pid, "SIGCONT");
    }
  });
});

/** The bound address of metrics, from the log, which has it a moment after the API is served. */
async function addressOf(daemon: Daemon): Promise<URL> {
  const pattern = /"address":"(tcp:[^"]+)","msg":"metrics are served"/;
  const address = await until(() => pattern.exec(daemon.output)?.[1]);
  return new URL(address.replace("tcp:", "https:"));
}

it("metrics on the loopback are served as they are, elsewhere to clients with a certificate only", async () => {
  const directory = scratchDirectory();
  {
    await using daemon = await Daemon.start({ args: ["--metrics-addr", "tcp://127.0.0.1:0"] });
    const { port } = await addressOf(daemon);
    const answer = await fetch(`http://127.0.0.1:${port}/livez`);
    assert.equal(await answer.text(), "ok\n");
  }
  const { server, client } = await makeCertificates(directory);
  const tls = ["--tlscacert", server.ca, "--tlscert", server.cert, "--tlskey", server.key];
  await using daemon = await Daemon.start({ args: ["--metrics-addr", "tcp://0.0.0.0:0", ...tls] });
  const { port } = await addressOf(daemon);
  const [ca, cert, key] = await Promise.all(
    [client.ca, client.cert, client.key].map((file) => readFile(file)),
  );
  const ask = (own: object): Promise<number> =>
    new Promise((resolve, reject) => {
      tlsRequest(
        { host: "127.0.0.1", port, path: "/livez", servername: "localhost", agent: false, ca, ...own },
        (incoming) => {
          incoming.resume();
          resolve(incoming.statusCode ?? 0);
        },
      )
        .on("error", reject)
        .end();
    });
  assert.equal(await ask({ cert, key }), 200);
  await assert.rejects(ask({}));
});
