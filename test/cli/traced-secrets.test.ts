/** Traces, shims and a daemon that logs at debug, used by the docker CLI: none tells a secret (routes: test/local/secrets-in-logs.test.ts). */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { glob, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { errnoOf } from "../../src/common/errors.ts";
import { Collector } from "../support/collector.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { duringTests } from "../support/during-tests.ts";
import { busyboxImage } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { until } from "../support/until.ts";

const made: string[] = [];

/** A new secret, which no log may have. */
function secret(): string {
  const value = `secret-${randomUUID()}`;
  made.push(value);
  return value;
}

/** The forms in which a secret travels. */
function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const inBase64 = [0, 1, 2].map((shift) =>
    // Without the ends, which depend on what stands beside it.
    Buffer.concat([Buffer.alloc(shift), bytes])
      .toString("base64")
      .slice(4, -4),
  );
  return [value, encodeURIComponent(value), [...bytes].join(), ...inBase64];
}

describe("a daemon that logs at debug", () => {
  const { collector, daemon, registry } = duringTests(async (resources) => {
    const collector = resources.use(await Collector.start());
    const registry = resources.use(await TestRegistry.start({ credentials: true }));
    await registry.push("team/box", "latest", await busyboxImage({ Cmd: ["echo", "said"] }));
    const options = { args: ["--log-level", "debug"], env: collector.environment };
    return { collector, registry, daemon: resources.use(await Daemon.startWithBusybox(options)) };
  });

  it("tells no secret of a registry's user, of an environment, of a URL or of build arguments", async () => {
    const login = (password: string): Promise<unknown> =>
      daemon.dockerWith(
        { input: password },
        ...["login", "--username", registryUser.username, "--password-stdin", registry.host],
      );
    made.push(registryUser.password);
    await login(secret());
    await login(registryUser.password);
    await daemon.ok("pull", `${registry.host}/team/box`);
    await daemon.docker("push", `${registry.host}/team/box`);

    const environment = (): string => `--env=TOKEN=${secret()}`;
    await daemon.ok("run", "--detach", "--name=lives", environment(), "busybox", "sleep", "1000");
    await daemon.ok("exec", environment(), "lives", "true");
    await daemon.docker("exec", environment(), "lives", "no-such-program");
    await daemon.docker("run", "--rm", environment(), "busybox", "no-such-program");
    await daemon.docker("run", "--rm", environment(), "--network=no-such", "busybox", "true");
    await daemon.ok("commit", "--change", `ENV TOKEN=${secret()}`, "lives", "changed");

    const at = `http://user:${secret()}@127.0.0.1:1`;
    await daemon.docker("import", `${at}/files.tar`);
    // As a build's request has them; nothing is built here.
    const parameters = new URLSearchParams({
      remote: `${at}/source.git`,
      buildargs: JSON.stringify({ TOKEN: secret() }),
    });
    await callApi(daemon.socket, "GET", `/v1.41/images/json?${parameters}`);
    const credentials = Buffer.from(JSON.stringify({ username: "ali", password: secret() }));
    const answered = await callApi(daemon.socket, "POST", "/images/create?fromImage=127.0.0.1:1/x", {
      headers: { "X-Registry-Auth": credentials.toString("base64url") },
    });
    await daemon.ok("rm", "--force", "lives");

    const id = answered.headers["sockerless-request-id"];
    await until(() => collector.spans.find(({ attributes }) => attributes["sockerless.request.id"] === id));
    const spans = JSON.stringify(collector.spans, (_, value: unknown) =>
      typeof value === "bigint" ? String(value) : value,
    );
    const logs = [daemon.output, spans];
    for await (const file of glob("**/shim.log", { cwd: daemon.stateDir })) {
      logs.push(await readFile(join(daemon.stateDir, file), "utf8").catch(unlessMissing));
    }
    const text = logs.join("\n");
    assert.match(text, /"level":"debug"/);
    assert.match(text, /buildargs=\*\*\*/);
    assert.ok(spans.includes("POST /images/create"));
    const told = made.flatMap(formsOf).filter((form) => text.includes(form));
    assert.deepEqual(
      told.map((form) => text.split("\n").find((line) => line.includes(form))),
      [],
    );
  });
});

/** The log of a container that was removed meanwhile. */
function unlessMissing(error: unknown): string {
  if (errnoOf(error) !== "ENOENT") {
    throw error;
  }
  return "";
}
