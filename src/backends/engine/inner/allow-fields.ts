import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";

import { forbidden } from "../../../common/errors.ts";

/**
 * The error for a request at a container's Docker socket that is not allowed.
 *
 * @param what the subject: "HostConfig.privileged"
 */
export function notAllowed(what: string): Error {
  return forbidden(`${what} is not allowed through the Docker socket of a container (inner_socket: own)`);
}

/** Refuses a message with any other field set. @param allowed names of fields, as in TypeScript */
export function allowFields<Desc extends DescMessage>(
  schema: Desc,
  message: MessageShape<Desc> | undefined,
  allowed: readonly (keyof MessageShape<Desc> & string)[],
): void {
  if (message === undefined) {
    return;
  }
  const reflected = reflect(schema, message);
  const names = new Set<string>(allowed);
  const other = reflected.fields.find((field) => !names.has(field.localName) && reflected.isSet(field));
  if (other !== undefined) {
    throw notAllowed(`${schema.name}.${other.localName}`);
  }
}
