/** Registry credentials in a header or a body. */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../common/errors.ts";
import { type RegistryAuth, RegistryAuthSchema } from "../gen/sockerless/backend/v1/image_pb.ts";
import { JsonFields } from "./convert/json-fields.ts";
import { parseJson } from "./http/json-body.ts";

/** Maximum length in characters; tokens have some kilobytes. */
const maxHeaderChars = 64 * 1024;

/**
 * Reads `X-Registry-Auth`.
 *
 * @returns undefined for a missing, empty, unreadable or overlong header: on a pull that means anonymous, as in dockerd, because
 *   clients send all kinds of things where they have no credentials
 */
export function registryAuthFromHeader(header: string | string[] | undefined): RegistryAuth | undefined {
  if (typeof header !== "string" || header === "" || header.length > maxHeaderChars) {
    return undefined;
  }
  try {
    const auth = registryAuthFromJson(parseJson(decodeBase64Url(header)));
    const anonymous =
      auth.username === "" && auth.password === "" && auth.identityToken === "" && auth.registryToken === "";
    return anonymous ? undefined : auth;
  } catch {
    return undefined;
  }
}

/**
 * Reads an `AuthConfig`.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function registryAuthFromJson(value: unknown): RegistryAuth {
  const fields = new JsonFields(value ?? {}, "AuthConfig");
  return create(RegistryAuthSchema, {
    username: fields.string("username"),
    password: fields.string("password"),
    identityToken: fields.string("identitytoken"),
    registryToken: fields.string("registrytoken"),
    serverAddress: fields.string("serveraddress"),
  });
}

/** Strict like Go's `URLEncoding`: Node's own decoder accepts anything as base64. */
function decodeBase64Url(text: string): string {
  const compact = text.replace(/[\r\n]/g, "");
  if (!/^(?:[\w-]{4})*(?:[\w-]{2}==|[\w-]{3}=)?$/.test(compact)) {
    throw invalid("illegal base64 data");
  }
  return Buffer.from(compact, "base64url").toString("utf8");
}
