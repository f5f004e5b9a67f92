/** Users' credentials for a registry, and the headers made from them. */
import { createHash } from "node:crypto";

import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";

/** A user's credentials for a registry; undefined: anonymous. */
export type Credentials = Pick<RegistryAuth, "username" | "password" | "identityToken" | "registryToken">;

/** True if a client provided none. */
export function isAnonymous(credentials: Credentials | undefined): boolean {
  const { username = "", identityToken = "", registryToken = "" } = credentials ?? {};
  return `${username}${identityToken}${registryToken}` === "";
}

/** `Authorization: Basic`; undefined without a user name. */
export function basicHeader(credentials: Credentials | undefined): string | undefined {
  if (credentials === undefined || credentials.username === "") {
    return undefined;
  }
  const pair = `${credentials.username}:${credentials.password}`;
  return `Basic ${Buffer.from(pair).toString("base64")}`;
}

/** A digest that is equal for equal credentials and reveals nothing of them. */
export function credentialsFingerprint(credentials: Credentials | undefined): string {
  const { username = "", password = "", identityToken = "", registryToken = "" } = credentials ?? {};
  return createHash("sha256")
    .update(JSON.stringify([username, password, identityToken, registryToken]))
    .digest("hex");
}
