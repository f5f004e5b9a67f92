/** Transfer of layers and image archives from and to clients. */
import type { AgentAddress } from "../../agent-client/address.ts";

/** An upload that goes to the driver without passing through this process. */
export interface ExpectedUpload extends AsyncDisposable {
  /** The address to upload to, as an archive put into a container whose ID is the upload's. */
  readonly address: AgentAddress;
  /** Resolves once all of it is stored. @throws invalid if cut, or not a complete tar; the driver's failure */
  readonly taken: Promise<TakenUpload>;
}

/** An image archive that goes to the driver without passing through this process. */
export interface ExpectedArchive extends AsyncDisposable {
  /** The address of the agent that receives it, as an archive put into a container whose ID is the upload's. */
  readonly address: AgentAddress;
  /** The entries, as they arrive. @throws invalid if cut, not a tar, or too many entries; the driver's failure */
  readonly entries: AsyncIterable<ArchiveEntry>;
}

/** An entry of an image archive; files are already stored. */
export type ArchiveEntry = { readonly name: string } & (
  | { readonly type: "file"; readonly path: string; readonly digest: string; readonly size: number }
  | { readonly type: "symlink" | "link"; readonly target: string }
  | { readonly type: "directory" | "other" }
);

/** An upload that has been received and stored. */
export interface TakenUpload {
  /** Digest and size of the bytes as received. */
  readonly digest: string;
  readonly size: number;
  /** Digest and size of the uncompressed tar. */
  readonly diffId: string;
  readonly tarSize: number;
  readonly compression: "gzip" | "zstd" | undefined;
}

/** How layers uploaded by clients are transferred. */
export type LayerUploads =
  /** Through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Waits for the upload of a layer, which is stored and unpacked as it arrives.
       *
       * @param uploadId a full ID that cannot be guessed
       * @param blobPath where the layer is stored; a failed upload leaves nothing there
       * @param signal cancels the upload
       */
      expect(uploadId: string, blobPath: string, signal: AbortSignal): Promise<ExpectedUpload>;
      /**
       * Waits for the upload of an image archive; its files are stored as they arrive.
       *
       * @param uploadId a full ID that cannot be guessed
       * @param directory where the files are stored; created by this call, and removed when the result is disposed
       * @param signal cancels the upload
       */
      expectArchive(uploadId: string, directory: string, signal: AbortSignal): Promise<ExpectedArchive>;
    };

/** A part of an archive: bytes, or a layer as an uncompressed tar. */
export type ArchivePart =
  | { readonly kind: "bytes"; readonly bytes: Uint8Array }
  | {
      readonly kind: "layer";
      /** Digest of the tar. */
      readonly diffId: string;
      /** Bytes of the tar. */
      readonly size: number;
      /** Digest of the blob in its original form: plain, gzip or zstd. */
      readonly digest: string;
    };

/** How image archives are transferred to clients. */
export type ArchiveDownloads =
  /** Through this process. */
  | { readonly kind: "relayed" }
  | {
      readonly kind: "direct";
      /**
       * Exports the archive to any client that requests it at the address.
       *
       * @param archiveId a full ID that cannot be guessed
       * @param parts with at most 16 MiB of bytes in total
       * @param signal withdraws the offer; exports in progress continue
       */
      offer(
        archiveId: string,
        parts: readonly ArchivePart[],
        blobPath: (digest: string) => string,
        signal: AbortSignal,
      ): Promise<AgentAddress>;
    };
