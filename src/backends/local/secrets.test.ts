import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { isErrorKind, messageOf } from "../../common/errors.ts";
import { SecretFileSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { hostSecrets } from "./secrets.ts";

const mib = 1024 * 1024;
const kib = 1024;
const ofBytes = (...sizes: readonly number[]) =>
  sizes.map((size) => create(SecretFileSchema, { path: "/run/secrets/x", content: new Uint8Array(size) }));
const given = (sizes: readonly number[], env: readonly string[] = [], config = "{}") =>
  hostSecrets({ files: ofBytes(...sizes), env }, Buffer.from(config));

describe("the secrets of a start", () => {
  it("are files of the container, up to 16 MiB", () => {
    assert.equal(given([15 * mib, mib]).length, 2);
    assert.equal(given([])[0], undefined);
  });

  it("are no sockets: these are mounted", () => {
    const socket = create(SecretFileSchema, { path: "/run/agent", socket: true });
    assert.throws(() => hostSecrets({ files: [socket], env: [] }, Buffer.from("{}")), {
      kind: "not-implemented",
    });
  });

  it("are refused when they take more, in whole pages of memory", () => {
    for (const sizes of [[16 * mib + 1], [16 * mib, 1], [40 * mib]]) {
      assert.throws(
        () => given(sizes),
        (error) =>
          isErrorKind(error, "invalid") &&
          /^the secrets of a start take (17|40) MiB of memory: at most 16 MiB are kept$/.test(
            messageOf(error),
          ),
      );
    }
  });

  it("share their memory with the configuration if some are variables", () => {
    const of = (bytes: number, character = "x") => [`TOKEN=${character.repeat(bytes)}`];
    assert.equal(given([14 * mib], of(mib)).length, 1);
    assert.equal(given([16 * mib], [], "x".repeat(mib)).length, 1);
    const refusal = { message: /^the secrets of a start take 17 MiB of memory/ };
    assert.throws(() => given([16 * mib], of(1)), refusal);
    assert.throws(() => given([15 * mib], of(mib)), refusal);
    assert.throws(() => given([15 * mib], of(1), "x".repeat(mib)), refusal);
    assert.throws(() => given([15 * mib], of(1), "&".repeat(200 * kib)), refusal);
    for (const escaped of ["<", "\u0001", "\u2028"]) {
      assert.throws(() => given([15 * mib], of(200 * kib, escaped)), refusal, "written as six bytes each");
    }
  });

  it("are measured without being written", () => {
    const before = process.threadCpuUsage();
    assert.throws(() => given([], [`TOKEN=${"<".repeat(6 * mib - kib)}`]), /take 37 MiB/);
    for (let n = 0; n < 30; n++) {
      assert.throws(() => given([], [`TOKEN=${"<".repeat(15 * mib)}`]), /a process has at most 6291456$/);
    }
    const { user } = process.threadCpuUsage(before);
    assert.ok(user < 2_000_000, `${user} µs`); // Written, the last alone take 80 s
  });
});
