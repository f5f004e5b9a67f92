/** A path's metadata in Docker's header. */
import type { ArchivedPath } from "../../agent-client/agent-stream.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { rfc3339Nano } from "./json-values.ts";

/** The header's name. */
export const pathStatHeader = "X-Docker-Container-Path-Stat";

/** The header's value: base64 of a JSON object. */
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
