import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";

import { newId } from "../../../common/ids.ts";
import { ContainerRecordSchema, SealedContainerSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { createSealer } from "./seal.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a sealed record", () => {
  const record = create(ContainerRecordSchema, { id: newId(), name: "web", generation: 3n });
  const other = create(ContainerRecordSchema, { id: newId(), name: "web", generation: 3n });
  const sealer = createSealer(bytes("secret"));

  it("comes back as it was", () => {
    assert.deepEqual(sealer.open(record.id, sealer.seal({ container: record }))?.container, record);
  });

  it("is believed of the container that it is of, and of no other", () => {
    const sealed = sealer.seal({ container: record });
    assert.equal(sealer.open(other.id, sealed), undefined);
    assert.equal(sealer.open("", sealer.seal({})), undefined, "of none");
  });

  it("is not believed with the seal of another record, or of an earlier one of the container", () => {
    const { specification } = sealer.seal({ container: record });
    for (const container of [other, create(ContainerRecordSchema, { ...record, generation: 2n })]) {
      const { seal } = sealer.seal({ container });
      assert.equal(sealer.open(record.id, { specification, seal }), undefined);
    }
  });

  it("is not believed with one bit changed, in the record or in the seal", () => {
    const sealed = sealer.seal({ container: record });
    for (const part of ["specification", "seal"] as const) {
      for (let index = 0; index < sealed[part].length; index++) {
        const changed = Uint8Array.from(sealed[part]);
        changed[index] = (changed[index] ?? 0) ^ 1;
        assert.equal(sealer.open(record.id, { ...sealed, [part]: changed }), undefined, `${part} ${index}`);
      }
    }
  });

  it("is not believed with a part of its seal, or none", () => {
    const { specification, seal } = sealer.seal({ container: record });
    for (const length of [0, 1, seal.length - 1]) {
      assert.equal(sealer.open(record.id, { specification, seal: seal.subarray(0, length) }), undefined);
    }
  });

  it("is not believed of another instance, nor under a key that is not this purpose's", () => {
    const sealed = sealer.seal({ container: record });
    assert.equal(createSealer(bytes("other")).open(record.id, sealed), undefined);
    const specification = toBinary(
      SealedContainerSchema,
      create(SealedContainerSchema, { container: record }),
    );
    const seal = createHmac("sha256", "secret").update(specification).digest();
    assert.equal(sealer.open(record.id, { specification, seal }), undefined, "the secret itself as the key");
  });
});
