/** Seccomp profiles of the user's own: `--security-opt seccomp=FILE`. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { callApi } from "../support/call-api.ts";
import { denied, tryDenied, writeSeccompProfile } from "../support/seccomp-profile.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, ok } = withDaemon();

describe("a container under a seccomp profile, without new privileges", () => {
  const directory = scratchDirectory();
  let options: string[];
  before(async () => {
    const profile = await writeSeccompProfile(directory);
    options = ["--security-opt", "no-new-privileges", "--security-opt", `seccomp=${profile}`];
  });
  it("is denied what the profile denies, with the errors that it names", async () => {
    const { code, errorText, stdout } = await daemon.docker(
      ...["run", "--rm", ...options, "busybox", "sh", "-c", tryDenied],
    );
    assert.equal(code, 1, errorText);
    assert.match(stdout.toString().trimEnd(), denied);
  });

  it("has its execs under the profile, by root and others and with terminals, and its health checks", async () => {
    const check = ["--health-cmd", tryDenied, "--health-interval", "100ms"];
    await ok("run", "--detach", "--name", "confined", ...options, ...check, "busybox", "sleep", "1000");
    for (const flags of [[], ["--user", "root"], ["--tty"]]) {
      const exec = await daemon.docker("exec", ...flags, "confined", "sh", "-c", tryDenied);
      assert.equal(exec.code, 1, exec.errorText);
      assert.match(exec.stdout.toString().replaceAll("\r", "").trimEnd(), denied);
    }
    const log = ["inspect", "--format", "{{range .State.Health.Log}}{{.Output}}{{end}}", "confined"];
    const output = await until(async () => (await ok(...log)) || undefined);
    assert.match(output, /Operation not permitted\nchmod: .*No space left on device/);
    await ok("rm", "--force", "confined");
  });

  it("has a program started that finds in /proc that it is filtered", async () => {
    const status = await ok("run", "--rm", ...options, "busybox", "cat", "/proc/self/status");
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Seccomp:\t2$/m);
  });

  it("is told why its command does not start where the profile forbids that", async () => {
    const closed = join(directory, "closed.json");
    const syscalls = [{ names: ["execve"], action: "SCMP_ACT_ERRNO" }];
    await writeFile(closed, JSON.stringify({ defaultAction: "SCMP_ACT_ALLOW", syscalls }));
    const { code, errorText } = await daemon.docker(
      ...["run", "--rm", "--security-opt", "no-new-privileges", "--security-opt", `seccomp=${closed}`],
      ...["busybox", "true"],
    );
    assert.notEqual(code, 0);
    assert.match(errorText, /operation not permitted/);
  });

  it("is not made with a profile that is none: 400", async () => {
    for (const profile of ["{", "[]", '{"syscalls":{}}', '{"syscalls":[{"action":1}]}']) {
      const body = {
        Image: "busybox",
        HostConfig: { SecurityOpt: ["no-new-privileges", `seccomp=${profile}`] },
      };
      const { status, text } = await callApi(daemon.socket, "POST", "/containers/create", { body });
      assert.equal(status, 400, text);
      assert.match(text, /Decoding seccomp profile failed: /);
    }
  });
});
