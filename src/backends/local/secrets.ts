import type { MessageInitShape } from "@bufbuild/protobuf";
import { invalid } from "../../common/errors.ts";
import type { SecretFile } from "../../gen/sockerless/backend/v1/container_pb.ts";
import type { SecretFileSchema } from "../../gen/sockerless/host/v1/host_pb.ts";

/** Bytes of memory that the host process has for the secrets of a start. */
const maxBytes = 16 * 1024 * 1024;

const pageBytes = 4096;

/** @throws invalid: they take more memory than there is for them */
export function hostSecrets(secrets: readonly SecretFile[]): MessageInitShape<typeof SecretFileSchema>[] {
  const pages = secrets.reduce((sum, { content }) => sum + Math.ceil(content.length / pageBytes), 0);
  if (pages * pageBytes > maxBytes) {
    const mib = Math.ceil((pages * pageBytes) / 1024 / 1024);
    throw invalid(
      `the secrets of a start take ${mib} MiB of memory: at most ${maxBytes / 1024 / 1024} MiB are kept`,
    );
  }
  return secrets.map(({ path, content, mode, uid, gid }) => ({
    containerPath: path,
    content,
    mode,
    uid,
    gid,
  }));
}
