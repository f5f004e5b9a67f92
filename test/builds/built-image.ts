/** Images in an OCI archive as their user sees them: what they are configured to be, and their files. */
import { createHash } from "node:crypto";
import { gunzipSync } from "node:zlib";

import { extract, type Header } from "tar-stream";

/** One image, without times of its making and digests. */
export interface BuiltImage {
  readonly config: unknown;
  readonly history: readonly unknown[];
  readonly layers: number;
  /** A line for each path: type, mode, owner, and what it holds. */
  readonly files: readonly string[];
}

interface Entry {
  readonly header: Header;
  readonly content: Buffer;
}

/** Files that are older than this keep their time; the rest are made by the build. */
const today = new Date("2020-01-01");

/** Reads the images of an archive: one for each platform. */
export async function builtImagesOf(archive: Uint8Array): Promise<BuiltImage[]> {
  const files = new Map((await read(archive)).map(({ header, content }) => [header.name, content]));
  const json = <T>(name: string): T => JSON.parse(String(files.get(name))) as T;
  const blob = (digest: string): string => `blobs/${digest.replace(":", "/")}`;
  const manifests = (name: string): Manifest[] => {
    const found = json<{ manifests?: { digest: string }[] } & Manifest>(name);
    return found.manifests?.flatMap(({ digest }) => manifests(blob(digest))) ?? [found];
  };
  const images: BuiltImage[] = [];
  for (const manifest of manifests("index.json")) {
    const {
      created: _created,
      history,
      rootfs: _rootfs,
      ...config
    } = json<Config>(blob(manifest.config.digest));
    const tree = new Map<string, string>();
    for (const { digest } of manifest.layers ?? []) {
      await apply(tree, files.get(blob(digest)) ?? Buffer.alloc(0));
    }
    images.push({
      config,
      history: history?.map(({ created: _, ...step }) => step) ?? [],
      layers: manifest.layers?.length ?? 0,
      files: [...tree].map(([path, told]) => `${path} ${told}`).toSorted((a, b) => (a < b ? -1 : 1)),
    });
  }
  return images;
}

interface Manifest {
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string }[] | null;
}

interface Config {
  readonly [name: string]: unknown;
  readonly history?: readonly Readonly<Record<string, unknown>>[];
}

async function read(archive: Uint8Array): Promise<Entry[]> {
  const reader = extract();
  const isGzip = archive[0] === 0x1f && archive[1] === 0x8b;
  reader.end(isGzip ? gunzipSync(archive) : archive);
  const entries: Entry[] = [];
  for await (const entry of reader) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry) {
      chunks.push(chunk as Buffer);
    }
    entries.push({ header: entry.header, content: Buffer.concat(chunks) });
  }
  return entries;
}

/** Lays a layer over a tree of paths. */
async function apply(tree: Map<string, string>, layer: Uint8Array): Promise<void> {
  const remove = (path: string, itself: boolean): void => {
    for (const known of tree.keys()) {
      if ((itself && known === path) || known.startsWith(`${path}/`)) {
        tree.delete(known);
      }
    }
  };
  const entries = await read(layer);
  const pathOf = (name: string): string => `/${name.replace(/^\.?\//, "").replace(/\/$/, "")}`;
  for (const { header } of entries) {
    const path = pathOf(header.name);
    const name = path.slice(path.lastIndexOf("/") + 1);
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (name === ".wh..wh..opq") {
      remove(parent, false);
    } else if (name.startsWith(".wh.")) {
      remove(`${parent}/${name.slice(4)}`, true);
    }
  }
  for (const { header, content } of entries) {
    const path = pathOf(header.name);
    if (path === "/" || path.includes("/.wh.")) {
      continue;
    }
    if (header.type === "link") {
      const target = pathOf(header.linkname ?? "");
      tree.set(path, `${tree.get(target)}`);
      continue;
    }
    if (header.type !== "directory") {
      remove(path, true);
    }
    tree.set(path, describe(header, content));
  }
}

function describe(header: Header, content: Buffer): string {
  const { type, mode = 0, uid, gid, mtime, linkname } = header;
  const attributes = Object.entries((header as { pax?: Record<string, string> | null }).pax ?? {})
    .filter(([key]) => key.startsWith("SCHILY.xattr."))
    .toSorted();
  return [
    type,
    (mode & 0o7777).toString(8),
    `${uid}:${gid}`,
    ...(mtime !== undefined && mtime < today ? [mtime.toISOString()] : []),
    ...(linkname ? [`-> ${linkname}`] : []),
    ...(content.length > 0
      ? [
          content.length > 2000
            ? createHash("sha256").update(content).digest("hex")
            : JSON.stringify(String(content)),
        ]
      : []),
    ...attributes.map(([key, value]) => `${key}=${value}`),
  ].join(" ");
}
