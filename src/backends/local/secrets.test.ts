import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { isErrorKind, messageOf } from "../../common/errors.ts";
import { SecretFileSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { hostSecrets } from "./secrets.ts";

const mib = 1024 * 1024;
const ofBytes = (...sizes: readonly number[]) =>
  sizes.map((size) => create(SecretFileSchema, { path: "/run/secrets/x", content: new Uint8Array(size) }));

describe("the secrets of a start", () => {
  it("are files of the container, up to 16 MiB", () => {
    assert.equal(hostSecrets(ofBytes(15 * mib, mib)).length, 2);
    assert.equal(hostSecrets([])[0], undefined);
  });

  it("are refused when they take more, in whole pages of memory", () => {
    for (const sizes of [[16 * mib + 1], [16 * mib, 1], [40 * mib]]) {
      assert.throws(
        () => hostSecrets(ofBytes(...sizes)),
        (error) =>
          isErrorKind(error, "invalid") &&
          /^the secrets of a start take (17|40) MiB of memory: at most 16 MiB are kept$/.test(
            messageOf(error),
          ),
      );
    }
  });
});
