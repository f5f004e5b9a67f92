/**
 * Sealing what an agent keeps for us. Root in a container can own its agent, so what an agent hands back counts only
 * where the seal, under a key that no container ever sees, verifies.
 */
import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { type SealedContainer, SealedContainerSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** A container's record as an agent keeps it. */
export interface SealedRecord {
  readonly specification: Uint8Array;
  readonly seal: Uint8Array;
}

/** Seals records, and opens those that it has sealed. */
export interface Sealer {
  seal(container: MessageInitShape<typeof SealedContainerSchema>): SealedRecord;
  /** @returns undefined where the seal is not ours, or is that of another container */
  open(containerId: string, sealed: SealedRecord): SealedContainer | undefined;
}

const keyPurpose = "sockerless: seal of container records, version 2";
const keyBytes = 32;

/** @param secret of the instance, kept apart from its state; the key is derived from it */
export function createSealer(secret: Uint8Array): Sealer {
  const key = new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), keyPurpose, keyBytes));
  const mac = (specification: Uint8Array): Uint8Array =>
    createHmac("sha256", key).update(specification).digest();
  return {
    seal(container) {
      const specification = toBinary(SealedContainerSchema, create(SealedContainerSchema, container));
      return { specification, seal: mac(specification) };
    },
    open(containerId, { specification, seal }) {
      const expected = mac(specification);
      if (seal.length !== expected.length || !timingSafeEqual(seal, expected)) {
        return undefined;
      }
      const opened = fromBinary(SealedContainerSchema, specification);
      return opened.container?.id === containerId ? opened : undefined;
    },
  };
}
