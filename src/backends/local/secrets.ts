import type { MessageInitShape } from "@bufbuild/protobuf";
import { invalid, notImplemented } from "../../common/errors.ts";
import type { SecretFileSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { StartSecrets } from "../driver/workload-spec.ts";

/** Memory of the host process for the secrets of a start, in bytes. */
const maxBytes = 16 * 1024 * 1024;

/** The most that Linux gives a process for its variables and arguments, in bytes. */
const maxVariables = 6 * 1024 * 1024;

const pageBytes = 4096;

const [lessThan, greaterThan, ampersand] = Buffer.from("<>&");

/** Reserve for the host process's additions to an OCI configuration, except secrets' mounts, which take a page each. */
const addedBytes = 64 * 1024;

/**
 * The files of a start's secrets.
 * @param ociConfig its OCI configuration as JSON, which uses the same memory if it has secret variables
 * @throws invalid if they need more memory than available; not-implemented for a socket, which is mounted here instead
 */
export function hostSecrets(
  { files, env }: StartSecrets,
  ociConfig: Uint8Array,
): MessageInitShape<typeof SecretFileSchema>[] {
  if (files.some(({ socket }) => socket)) {
    throw notImplemented("the local backend gives a start no sockets: they are mounted");
  }
  const variableBytes = env.reduce((sum, each) => sum + each.length, 0);
  if (variableBytes > maxVariables) {
    throw invalid(`secret variables take ${variableBytes} bytes: a process has at most ${maxVariables}`);
  }
  let pages = files.reduce((sum, { content }) => sum + pagesOf(content.length), 0);
  if (env.length > 0) {
    const written = writtenBytes(ociConfig) + writtenBytes(Buffer.from(JSON.stringify(env)));
    pages += files.length + pagesOf(written + addedBytes);
  }
  if (pages * pageBytes > maxBytes) {
    const mib = Math.ceil((pages * pageBytes) / 1024 / 1024);
    throw invalid(
      `the secrets of a start take ${mib} MiB of memory: at most ${maxBytes / 1024 / 1024} MiB are kept`,
    );
  }
  return files.map(({ path, content, mode, uid, gid }) => ({
    containerPath: path,
    content,
    mode,
    uid,
    gid,
  }));
}

function pagesOf(bytes: number): number {
  return Math.ceil(bytes / pageBytes);
}

/** Bytes of JSON as written by the host process, which escapes HTML characters and U+2028 and U+2029. */
function writtenBytes(json: Uint8Array): number {
  let bytes = json.length;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === lessThan || byte === greaterThan || byte === ampersand) {
      bytes += 5;
    } else if (byte === 0xe2 && json[at + 1] === 0x80 && ((json[at + 2] ?? 0) & 0xfe) === 0xa8) {
      bytes += 3;
    }
  }
  return bytes;
}
