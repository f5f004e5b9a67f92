/** Layers and archives of images on their way from and to clients. */
import type { AgentAddress } from "../../agent-client/address.ts";

/** An upload that goes to the driver, and not through this process. */
export interface ExpectedUpload extends AsyncDisposable {
  /** Address to send it to, as an archive that is put into a container with the upload's ID. */
  readonly address: AgentAddress;
  /** Resolves once all of it is stored. @throws invalid: cut, or not a whole tar; the driver's failure */
  readonly taken: Promise<TakenUpload>;
}

/** An archive of images that goes to the driver, and not through this process. */
export interface ExpectedArchive extends AsyncDisposable {
  /** Address of the agent that takes it, as an archive that is put into a container with the upload's ID. */
  readonly address: AgentAddress;
  /** Come as the archive does. @throws invalid: cut, no tar, or too many; the driver's failure */
  readonly entries: AsyncIterable<ArchiveEntry>;
}

/** An entry of an archive of images; a file is stored. */
export type ArchiveEntry = { readonly name: string } & (
  | { readonly type: "file"; readonly path: string; readonly digest: string; readonly size: number }
  | { readonly type: "symlink" | "link"; readonly target: string }
  | { readonly type: "directory" | "other" }
);

/** An upload that has come, and been stored. */
export interface TakenUpload {
  /** Digest of the bytes as they came, and their number. */
  readonly digest: string;
  readonly size: number;
  /** Digest of the tar, not compressed, and the number of its bytes. */
  readonly diffId: string;
  readonly tarSize: number;
  readonly compression: "gzip" | "zstd" | undefined;
}

/** The way of layers that clients upload. */
export type LayerUploads =
  /** They come through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Waits for the upload of a layer, which is stored and unpacked while it comes.
       *
       * @param uploadId a full ID that nobody can guess
       * @param blobPath where it is stored; nothing is left there of one that fails
       * @param signal ends it
       */
      expect(uploadId: string, blobPath: string, signal: AbortSignal): Promise<ExpectedUpload>;
      /**
       * Waits for the upload of an archive of images, whose files are stored while it comes.
       *
       * @param uploadId a full ID that nobody can guess
       * @param directory where they are stored, which is not there yet; it goes when the answer is disposed of
       * @param signal ends it
       */
      expectArchive(uploadId: string, directory: string, signal: AbortSignal): Promise<ExpectedArchive>;
    };

/** A part of an archive: bytes, or a layer's tar, not compressed. */
export type ArchivePart =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
      readonly kind: "layer";
      /** Digest of the tar. */
      readonly diffId: string;
      /** Bytes of the tar. */
      readonly size: number;
      /** The blob, as it came: plain, gzip or zstd. */
      readonly digest: string;
    };

/** The way of archives of images to clients. */
export type ArchiveDownloads =
  /** They come through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Has the archive be exported to whoever asks at the address.
       *
       * @param archiveId a full ID that nobody can guess
       * @param parts at most 16 MiB of bytes among them
       * @param signal ends it; what is being written goes on
       */
      offer(
        archiveId: string,
        parts: readonly ArchivePart[],
        blobPath: (digest: string) => string,
        signal: AbortSignal,
      ): Promise<AgentAddress>;
    };
