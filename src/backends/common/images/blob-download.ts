/** One blob from a registry into the content store: resumed where it was cut, retried with growing pauses, verified. */
import type { Clock } from "../../../common/clock.ts";
import { shortId } from "../../../common/ids.ts";
import { invalid } from "../../../common/errors.ts";
import type { BlobLease, BlobWriter, ContentStore, StoredBlob } from "./content-store.ts";
import type { Descriptor } from "./manifest.ts";
import type { ReportProgress } from "./progress.ts";
import { isWorthRetrying } from "./registry/registry-errors.ts";
import type { Registry } from "./registry/registry.ts";

const maxAttempts = 5;
const firstPauseSeconds = 1;

/** What a download works with. */
export interface DownloadContext {
  readonly registry: Registry;
  /** The repository at the registry. */
  readonly path: string;
  readonly store: ContentStore;
  readonly lease: BlobLease;
  readonly clock: Clock;
  readonly report: ReportProgress;
  readonly signal: AbortSignal;
}

/**
 * Downloads a blob.
 *
 * @throws RegistryRefusal, RegistryUnreachable (after the last attempt); invalid: not what its digest says
 */
export async function downloadBlob(descriptor: Descriptor, context: DownloadContext): Promise<StoredBlob> {
  const { digest, size } = descriptor;
  const id = shortId(digest);
  await using writer = await context.store.write(context.lease);
  for (let attempt = 1; ; attempt++) {
    try {
      await receive(writer, descriptor, context);
      context.report({ id, status: "Verifying Checksum" });
      break;
    } catch (error) {
      if (attempt === maxAttempts || !isWorthRetrying(error)) {
        throw error;
      }
      await pause(firstPauseSeconds * 2 ** (attempt - 1), id, context);
    }
  }
  let blob: StoredBlob;
  try {
    blob = await writer.finish({ digest, size });
  } catch (error) {
    throw invalid(`filesystem layer verification failed for digest ${digest}`, error);
  }
  context.report({ id, status: "Download complete" });
  return blob;
}

/** Appends what is missing of the blob. */
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
    throttled({ id: shortId(digest), status: "Downloading", current: writer.size, total: size });
  }
}

/** Counts the seconds to the next attempt down, as Docker shows it. */
export async function pause(
  seconds: number,
  id: string,
  { clock, report, signal }: Pick<DownloadContext, "clock" | "report" | "signal">,
): Promise<void> {
  for (let left = seconds; left > 0; left--) {
    report({ id, status: `Retrying in ${left} second${left === 1 ? "" : "s"}` });
    await clock.sleep(1000, signal);
  }
}

/** Milliseconds between two reports of byte counts of one layer. */
const reportEveryMs = 100;

/** Lets a byte count pass at most every {@link reportEveryMs}, and the last one always. */
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
