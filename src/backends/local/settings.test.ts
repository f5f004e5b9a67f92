import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { localSettings } from "./settings.ts";

const recordOf = (init: MessageInitShape<typeof ContainerRecordSchema>) =>
  create(ContainerRecordSchema, init);

describe("SCTP ports on this machine", () => {
  it("are refused by name, ignoring case", () => {
    const record = recordOf({ hostConfig: { portBindings: [{ containerPort: "9/SCTP" }] } });
    assert.deepEqual(localSettings.unsupported(record), ["publishing SCTP ports"]);
    assert.deepEqual(localSettings.notApplied(record), []);
  });

  it("are left out, with a warning, of all that an image exposes", () => {
    const record = recordOf({
      config: { exposedPorts: ["9/sctp", "80/tcp"] },
      hostConfig: { publishAllPorts: true },
    });
    assert.deepEqual(localSettings.unsupported(record), []);
    assert.deepEqual(
      localSettings.notApplied(record).map(({ name }) => name),
      ["--publish-all to SCTP ports"],
    );
  });
});
