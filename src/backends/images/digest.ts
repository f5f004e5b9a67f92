/** Content digests (`algorithm:hex`), the addresses of manifests, configurations and layers. */
import { createHash } from "node:crypto";

import { invalid } from "../../common/errors.ts";

/** Hexadecimal digits per algorithm that a reference may use. */
const hexLength: Readonly<Record<string, number>> = { sha256: 64, sha384: 96, sha512: 128 };

const sha256Digest = /^sha256:[0-9a-f]{64}$/;

/** Whether the text is a complete SHA-256 digest, the only kind in the content store. */
export function isSha256Digest(text: string): boolean {
  return sha256Digest.test(text);
}

/**
 * Validates a digest of any known algorithm and returns it.
 *
 * @throws SockerlessError of kind `invalid`, in the words of the reference grammar
 */
export function parseDigest(text: string): string {
  const colon = text.indexOf(":");
  const hex = text.slice(colon + 1);
  if (colon <= 0 || hex === "" || !/^[a-z0-9]+([+._-][a-z0-9]+)*$/.test(text.slice(0, colon))) {
    throw invalid("invalid checksum digest format");
  }
  const length = hexLength[text.slice(0, colon)];
  if (length === undefined) {
    throw invalid("unsupported digest algorithm");
  }
  if (hex.length !== length) {
    throw invalid("invalid checksum digest length");
  }
  if (!/^[0-9a-f]+$/.test(hex)) {
    throw invalid("invalid checksum digest format");
  }
  return text;
}

/** The hexadecimal digits of a digest. */
export function hexOf(digest: string): string {
  return digest.slice(digest.indexOf(":") + 1);
}

/** The SHA-256 digest of bytes, or of a text in UTF-8. */
export function sha256Of(content: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/**
 * Chain IDs of a stack of layers: each identifies a layer together with all below it (OCI image specification, "Layer
 * ChainID"). Images share a layer's storage if the chain IDs are equal; `LayerStacks` tells so without a hash.
 *
 * @param diffIds bottom first
 * @returns bottom first
 */
export function chainIds(diffIds: readonly string[]): readonly string[] {
  const chain: string[] = [];
  let parent: string | undefined;
  for (const diffId of diffIds) {
    parent = parent === undefined ? diffId : sha256Of(`${parent} ${diffId}`);
    chain.push(parent);
  }
  return chain;
}
