import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";

import type { RecordedRequest } from "../../../test/support/record-docker-cli.ts";
import { replacedAt, strangeValue } from "../../../test/support/strange-json.ts";
import { SockerlessError } from "../../common/errors.ts";
import { CreateContainerRequestSchema } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { ApiVersion } from "../api-version.ts";
import { parseJson } from "../http/json-body.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { containerConfigToJson } from "./container-config.ts";
import { createRequestFromJson } from "./create-request.ts";
import { hostConfigToJson } from "./host-config.ts";

const fixtures = join(dirname(findPackageJSON(import.meta.url) ?? "."), "test/fixtures/docker-cli");
const bodies = readdirSync(fixtures).map(
  (file) => (JSON.parse(readFileSync(join(fixtures, file), "utf8")) as RecordedRequest).body,
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
