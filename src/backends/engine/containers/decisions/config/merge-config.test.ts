import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { messageOf } from "../../../../../common/errors.ts";
import { ContainerConfigSchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { environmentOf } from "./environment.ts";
import { commandOf, mergeConfig, refuseLargeImage } from "./merge-config.ts";

const config = (fields: MessageInitShape<typeof ContainerConfigSchema>) =>
  create(ContainerConfigSchema, fields);
const list = (...values: string[]) => ({ values });

describe("a container's command", () => {
  const image = config({ entrypoint: list("/entry"), cmd: list("default") });
  const command = (user: MessageInitShape<typeof ContainerConfigSchema>, of = image) => {
    const { path, args } = commandOf(mergeConfig(config(user), of));
    return [path, ...args].join(" ");
  };

  it("is the image's where the user gives none", () => {
    assert.equal(command({}), "/entry default");
  });

  it("has the user's arguments in place of the image's", () => {
    assert.equal(command({ cmd: list("mine") }), "/entry mine");
  });

  it("drops the image's arguments with an entry point of the user's own", () => {
    assert.equal(command({ entrypoint: list("/own") }), "/own");
    assert.equal(command({ entrypoint: list("/own"), cmd: list("x") }), "/own x");
  });

  it("loses the image's entry point to an empty one, and takes the user's command", () => {
    assert.equal(command({ entrypoint: list(""), cmd: list("sh") }), "sh");
  });

  it("is refused where nobody names one", () => {
    assert.throws(() => command({ entrypoint: list("") }), /^SockerlessError: no command specified$/);
    assert.throws(
      () => command({}, config({})),
      (error) => messageOf(error) === "no command specified",
    );
  });
});

describe("a container's configuration", () => {
  it("takes from the image what the user leaves open, and adds what both list", () => {
    const merged = mergeConfig(
      config({
        env: ["A=user"],
        labels: { a: "user" },
        exposedPorts: ["80/tcp"],
        volumes: ["/u"],
        user: "1",
      }),
      config({
        cmd: list("sh"),
        env: ["A=image", "B=image"],
        labels: { a: "image", b: "image", "sockerless.build": "", "sockerless.inner-socket": "job" },
        exposedPorts: ["80/tcp", "443/tcp"],
        volumes: ["/i"],
        user: "2",
        workingDir: "/w",
        stopSignal: "SIGINT",
      }),
    );
    assert.deepEqual(merged.env, ["A=user", "B=image"]);
    assert.deepEqual(merged.labels, { a: "user", b: "image" });
    assert.deepEqual(merged.exposedPorts, ["80/tcp", "443/tcp"]);
    assert.deepEqual(merged.volumes, ["/u", "/i"]);
    assert.deepEqual([merged.user, merged.workingDir, merged.stopSignal], ["1", "/w", "SIGINT"]);
  });

  it("is not made of an image whose own is large", () => {
    const tooLarge = /the image's configuration is too large for a container: at most 2000 labels, /;
    const labels = (count: number, length: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`l${index}`, "x".repeat(length)]));
    const env = (count: number) => Array.from({ length: count }, (_, index) => `V${index}=`);
    const ports = (count: number) => Array.from({ length: count }, (_, index) => `${index}/udp`);
    refuseLargeImage(config({ labels: labels(1_000, 10), env: env(1_000), exposedPorts: ports(16_384) }));
    for (const large of [
      { labels: labels(1_000, 0), env: env(1_001) },
      { labels: labels(100, 3_000) },
      { exposedPorts: ports(20_001) },
      { healthcheck: { test: env(2_001) } },
    ]) {
      assert.throws(() => refuseLargeImage(config(large)), tooLarge);
    }
  });

  it("has a working directory without detours", () => {
    const workingDir = (path: string) =>
      mergeConfig(config({ cmd: list("sh"), workingDir: path }), config({ workingDir: "/image/" }))
        .workingDir;
    assert.deepEqual(["/tmp/", "/a//b/../c", ""].map(workingDir), ["/tmp", "/a/c", "/image/"]);
  });

  it("completes a health check that says only how often", () => {
    const merged = mergeConfig(
      config({ cmd: list("x"), healthcheck: { retries: 9 } }),
      config({ healthcheck: { test: ["CMD", "check"], retries: 2, interval: 5n } }),
    );
    assert.deepEqual(merged.healthcheck?.test, ["CMD", "check"]);
    assert.deepEqual([merged.healthcheck?.retries, merged.healthcheck?.interval], [9, 5n]);
  });
});

describe("a process's environment", () => {
  const record = create(ContainerRecordSchema, {
    config: { hostname: "box", env: ["PATH=/only", "A=1", "B=x=y"] },
  });

  it("has PATH and HOSTNAME, and TERM on a terminal, under the container's own entries", () => {
    assert.deepEqual(environmentOf(record, true), [
      "PATH=/only",
      "HOSTNAME=box",
      "TERM=xterm",
      "A=1",
      "B=x=y",
    ]);
    assert.ok(
      environmentOf(create(ContainerRecordSchema, {}), false).some((entry) =>
        entry.startsWith("PATH=/usr/local"),
      ),
    );
  });

  it("loses what an exec unsets and takes what it sets", () => {
    assert.deepEqual(environmentOf(record, false, ["A", "B=2"]), ["PATH=/only", "HOSTNAME=box", "B=2"]);
  });
});
