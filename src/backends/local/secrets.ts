import type { MessageInitShape } from "@bufbuild/protobuf";
import { invalid, notImplemented } from "../../common/errors.ts";
import type { SecretFileSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { StartSecrets } from "../driver/workload-spec.ts";

/** Memory of the host process for the secrets of a start, in bytes. */
const maxBytes = 16 * 1024 * 1024;

const pageBytes = 4096;

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
  let pages = files.reduce((sum, { content }) => sum + pagesOf(content.length), 0);
  if (env.length > 0) {
    pages +=
      files.length +
      pagesOf(
        writtenBytes(new TextDecoder().decode(ociConfig)) + writtenBytes(JSON.stringify(env)) + addedBytes,
      );
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

/** Bytes of JSON as written by the host process, which escapes HTML characters. */
function writtenBytes(json: string): number {
  return Buffer.byteLength(json.replaceAll(/[<>&\u2028\u2029]/g, String.raw`\u0000`));
}
