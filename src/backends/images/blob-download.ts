/**
 * Downloads a blob from a registry into the content store: resumes after a cut, retries with growing pauses, verifies.
 */
import { shortId } from "../../common/ids.ts";
import { invalid } from "../../common/errors.ts";
import type { BlobLease, BlobWriter, ContentStore, StoredBlob } from "./content-store.ts";
import type { Descriptor } from "./manifest.ts";
import type { ReportProgress } from "./progress.ts";
import type { Registry } from "./registry/registry.ts";
import { type RetryContext, withRetries } from "./registry-retries.ts";

/** Parts of a pull that a download needs. */
export interface DownloadContext extends RetryContext {
  readonly registry: Registry;
  /** The repository at the registry. */
  readonly path: string;
  readonly store: ContentStore;
  readonly lease: BlobLease;
  /** Called with each number of bytes that have come, or were read again to check them. */
  readonly advanced?: (bytes: number) => void;
}

/**
 * Downloads a blob.
 *
 * @throws RegistryRefusal, RegistryUnreachable (after the last attempt); invalid if it does not match its digest
 */
export async function downloadBlob(descriptor: Descriptor, context: DownloadContext): Promise<StoredBlob> {
  const { digest, size } = descriptor;
  const id = shortId(digest);
  await using writer = await context.store.write(context.lease);
  await withRetries(id, context, () => receive(writer, descriptor, context));
  context.report({ id, status: "Verifying Checksum" });
  let blob: StoredBlob;
  try {
    blob = await writer.finish({ digest, size });
  } catch (error) {
    throw invalid(`filesystem layer verification failed for digest ${digest}`, error);
  }
  context.report({ id, status: "Download complete" });
  return blob;
}

/** Appends the missing part of the blob. */
async function receive(
  writer: BlobWriter,
  { digest, size }: Descriptor,
  context: DownloadContext,
): Promise<void> {
  const { registry, path, report, signal } = context;
  if (writer.size === size) {
    return;
  }
  const part = await registry.blob(path, digest, writer.size, signal);
  if (part.offset !== writer.size) {
    await writer.restart();
  }
  const throttled = throttle(report);
  for await (const chunk of part.body) {
    if (writer.size + chunk.length > size) {
      throw invalid(`blob ${digest} is larger than the ${size} bytes that its manifest says`);
    }
    await writer.append(chunk);
    context.advanced?.(chunk.length);
    throttled({ id: shortId(digest), status: "Downloading", current: writer.size, total: size });
  }
}

/** Milliseconds between reports of a layer's byte count. */
const reportEveryMs = 100;

/** Reports a byte count at most every {@link reportEveryMs}, and always the last one. */
export function throttle(report: ReportProgress): ReportProgress {
  let last = Number.NEGATIVE_INFINITY;
  return (line) => {
    const at = performance.now();
    if (at - last >= reportEveryMs || line.current === line.total) {
      last = at;
      report(line);
    }
  };
}
