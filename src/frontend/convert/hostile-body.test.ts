import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";

import type { RecordedRequest } from "../../../test/support/record-docker-cli.ts";
import { SockerlessError } from "../../common/errors.ts";
import { CreateContainerRequestSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { ApiVersion } from "../api-version.ts";
import { parseJson } from "../json-body.ts";
import { stringifyJson } from "../reply.ts";
import { containerConfigToJson } from "./container-config.ts";
import { createRequestFromJson } from "./create-request.ts";
import { hostConfigToJson } from "./host-config.ts";

const fixtures = join(dirname(findPackageJSON(import.meta.url) ?? "."), "test/fixtures/docker-cli");
const bodies = readdirSync(fixtures).map(
  (file) => (JSON.parse(readFileSync(join(fixtures, file), "utf8")) as RecordedRequest).body,
);

/** Values that are wrong nearly everywhere. */
const strangeValue = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(null, "", -1, 2 ** 53, 1e300, 0.5, [], {}, [null], [[]], "\ud800", { a: null }),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
);

test("whatever stands anywhere in a body, it is understood or refused, and what is understood can be sent on", () => {
  const version = fc.constantFrom("1.24", "1.41", "1.44", "1.51");
  fc.assert(
    fc.property(fc.constantFrom(...bodies), fc.nat(), strangeValue, version, (body, place, value, text) => {
      const sent = stringifyJson(replacedAt(body, place, value));
      try {
        const { config, hostConfig, networking } = createRequestFromJson(
          parseJson(sent),
          new ApiVersion(text),
        );
        const request = create(CreateContainerRequestSchema, { config, hostConfig, networking });
        const received = fromBinary(
          CreateContainerRequestSchema,
          toBinary(CreateContainerRequestSchema, request),
        );
        assert.ok(received.config !== undefined && received.hostConfig !== undefined);
        stringifyJson([containerConfigToJson(received.config), hostConfigToJson(received.hostConfig)]);
      } catch (error) {
        assert.ok(error instanceof SockerlessError, error as Error);
        assert.equal(error.kind, "invalid");
      }
    }),
    { numRuns: 2000 },
  );
});

/** The body with another value at one of its places, counted in the order in which they are met. */
function replacedAt(body: unknown, place: number, value: unknown): unknown {
  let left = place % countPlaces(body);
  const replace = (node: unknown): unknown => {
    left -= 1;
    if (left < 0) {
      left = Number.POSITIVE_INFINITY;
      return value;
    }
    if (Array.isArray(node)) {
      return node.map(replace);
    }
    if (typeof node === "object" && node !== null) {
      return Object.fromEntries(Object.entries(node).map(([key, each]) => [key, replace(each)]));
    }
    return node;
  };
  return replace(body);
}

function countPlaces(node: unknown): number {
  const children = typeof node === "object" && node !== null ? Object.values(node) : [];
  return 1 + children.reduce<number>((sum, child) => sum + countPlaces(child), 0);
}
