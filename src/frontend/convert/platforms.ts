/** Platforms as clients write them: `linux/arm64/v8` in some queries, JSON in others. */
import { create } from "@bufbuild/protobuf";

import { invalid, messageOf } from "../../common/errors.ts";
import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { parseJson } from "../json-body.ts";
import { JsonFields } from "./json-fields.ts";

const component = /^[A-Za-z0-9_.-]+$/;
const operatingSystems: ReadonlySet<string> = new Set([
  "linux",
  "windows",
  "darwin",
  "macos",
  "freebsd",
  "netbsd",
  "openbsd",
  "solaris",
  "wasi",
]);

/**
 * Reads `os/architecture/variant`, or one of the first two alone.
 *
 * @returns undefined for an empty text and for `linux`, which says nothing here
 * @throws SockerlessError of kind `invalid`
 */
export function platformFromText(text: string): Platform | undefined {
  if (text === "") {
    return undefined;
  }
  const parts = text.split("/");
  if (parts.some((part) => !component.test(part))) {
    throw invalid(`${JSON.stringify(text)}: platform specifier component must match "${component.source}"`);
  }
  const [first = "", architecture = "", variant = "", ...rest] = parts;
  if (rest.length > 0) {
    throw invalid(`cannot parse platform specifier ${JSON.stringify(text)}`);
  }
  if (parts.length > 1) {
    return create(PlatformSchema, { os: first, architecture, variant });
  }
  if (!operatingSystems.has(first.toLowerCase())) {
    return create(PlatformSchema, { os: "linux", architecture: first });
  }
  return first.toLowerCase() === "linux" ? undefined : create(PlatformSchema, { os: first });
}

/**
 * Reads an OCI platform in JSON.
 *
 * @returns undefined for an empty text
 * @throws SockerlessError of kind `invalid`
 */
export function platformFromJson(text: string): Platform | undefined {
  if (text === "") {
    return undefined;
  }
  let fields: JsonFields;
  try {
    fields = new JsonFields(parseJson(text), "Platform");
  } catch (error) {
    throw invalid(`failed to parse platform: ${messageOf(error).replace(/^invalid JSON: /, "")}`, error);
  }
  const platform = create(PlatformSchema, {
    os: fields.string("os"),
    architecture: fields.string("architecture"),
    variant: fields.string("variant"),
  });
  if (platform.os === "" && platform.architecture === "" && platform.variant !== "") {
    throw invalid("optional platform fields provided, but OS and Architecture are missing");
  }
  if (platform.os === "" || platform.architecture === "") {
    throw invalid("both OS and Architecture must be provided");
  }
  return platform;
}
