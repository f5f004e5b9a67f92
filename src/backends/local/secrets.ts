import type { MessageInitShape } from "@bufbuild/protobuf";
import { invalid, notImplemented } from "../../common/errors.ts";
import type { SecretFileSchema } from "../../gen/sockerless/host/v1/host_pb.ts";
import type { StartSecrets } from "../driver/workload-spec.ts";

/** Bytes of memory that the host process has for the secrets of a start. */
const maxBytes = 16 * 1024 * 1024;

const pageBytes = 4096;

/** For what the host process adds to an OCI configuration, but for the mounts of secrets, which have a page each. */
const addedBytes = 64 * 1024;

/**
 * The files of a start's secrets.
 * @param ociConfig its OCI configuration as JSON, which takes of the same memory where it has secret variables
 * @throws invalid: they take more memory than there is for them; not-implemented: a socket, which is mounted here
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

/** Bytes of JSON as the host process writes it: it escapes what HTML would take amiss. */
function writtenBytes(json: string): number {
  return Buffer.byteLength(json.replaceAll(/[<>&\u2028\u2029]/g, String.raw`\u0000`));
}
