/** A path's metadata as Docker puts it into a header. */
import type { ArchivedPath } from "../../agent-client/agent-stream.ts";
import { stringifyJson } from "../http/reply.ts";
import { rfc3339Nano } from "./json-values.ts";

/** The name of the header. */
export const pathStatHeader = "X-Docker-Container-Path-Stat";

/** Its value: base64 of a JSON object. */
export function pathStatHeaderValue(stat: ArchivedPath): string {
  const json = stringifyJson({
    name: stat.name,
    size: stat.size,
    mode: stat.mode,
    mtime: rfc3339Nano({ $typeName: "google.protobuf.Timestamp", ...stat.mtime }),
    linkTarget: stat.linkTarget,
  });
  return Buffer.from(json).toString("base64");
}
