/**
 * Seals of records that agents store for us. Root in a container can take over its agent, so a returned record only
 * counts if its seal verifies, under a key that no container ever sees.
 */
import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";

import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { type SealedContainer, SealedContainerSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { callToken } from "./call-token.ts";

/** A container's record as an agent stores it. */
export interface SealedRecord {
  readonly specification: Uint8Array;
  readonly seal: Uint8Array;
}

/** Seals records and verifies seals. */
export interface Sealer {
  seal(container: MessageInitShape<typeof SealedContainerSchema>): SealedRecord;
  /** @returns undefined if the seal is not ours, or another container's */
  open(containerId: string, sealed: SealedRecord): SealedContainer | undefined;
  /** The key with which an agent seals the end of one run of its container; useless for any other run. */
  exitKey(containerId: string, generation: bigint): Uint8Array;
  /**
   * The secret that identifies the agent of one launch at its first call; the platform delivers it only to that task.
   */
  callbackSecret(containerId: string, generation: bigint): string;
  /** The key of {@link callToken}. */
  readonly callKey: Uint8Array;
  /** The token of the agent of one start, without which it is not asked for a proof. */
  readonly callToken: (containerId: string, generation: bigint) => string;
}

const keyPurpose = "sockerless: seal of container records, version 2";
const exitKeyPurpose = "sockerless: seal of the ends of runs, version 1";
const callbackPurpose = "sockerless: secrets of agents that call, version 1";
const callTokenPurpose = "sockerless: tokens of agents that call, version 1";
const keyBytes = 32;

/** @param secret of the instance, stored apart from its state; the keys are derived from it */
export function createSealer(secret: Uint8Array): Sealer {
  const keyFor = (purpose: string): Uint8Array =>
    new Uint8Array(hkdfSync("sha256", secret, new Uint8Array(), purpose, keyBytes));
  const key = keyFor(keyPurpose);
  const keyOfExitKeys = keyFor(exitKeyPurpose);
  const keyOfSecrets = keyFor(callbackPurpose);
  const callKey = keyFor(callTokenPurpose);
  return {
    seal(container) {
      const specification = toBinary(SealedContainerSchema, create(SealedContainerSchema, container));
      return { specification, seal: mac(key, specification) };
    },
    open(containerId, { specification, seal }) {
      if (!isSeal(seal, key, specification)) {
        return undefined;
      }
      const opened = fromBinary(SealedContainerSchema, specification);
      return opened.container?.id === containerId ? opened : undefined;
    },
    exitKey: (containerId, generation) => mac(keyOfExitKeys, runOf(containerId, generation)),
    callbackSecret: (containerId, generation) =>
      Buffer.from(mac(keyOfSecrets, runOf(containerId, generation))).toString("base64url"),
    callKey,
    callToken: (containerId, generation) => callToken(callKey, containerId, generation),
  };
}

function runOf(containerId: string, generation: bigint): Uint8Array {
  return Buffer.from(`${containerId} ${generation}`);
}

function mac(key: Uint8Array, message: Uint8Array): Uint8Array {
  return createHmac("sha256", key).update(message).digest();
}

/** Verifies a message authentication code. */
export function isSeal(seal: Uint8Array, key: Uint8Array, message: Uint8Array): boolean {
  const expected = mac(key, message);
  return seal.length === expected.length && timingSafeEqual(seal, expected);
}
