import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";

import { forbidden } from "../../../common/errors.ts";

/** The refusal of something at a container's Docker socket. @param what as a subject: "HostConfig.privileged" */
export function notAllowed(what: string): Error {
  return forbidden(`${what} is not allowed through the Docker socket of a container (inner_socket: own)`);
}

/** Refuses a message in which any other field is set. @param allowed names of fields, as in TypeScript */
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
