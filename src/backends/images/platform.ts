/**
 * Image platforms (`linux/arm/v7`), and which image runs on which machine. Normalization and preference are those of
 * containerd's `platforms` package, which Docker uses.
 */
import { create } from "@bufbuild/protobuf";

import { ownValue } from "../../common/own-value.ts";
import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";

/** Go's names of architectures, used in images, where Node's differ. */
const goArchitectures: Readonly<Record<string, string>> = { x64: "amd64", ia32: "386", ppc64: "ppc64le" };

/** Other spellings of architectures, used by people and old images, with the variant they imply. */
const aliases: Readonly<Record<string, readonly [architecture: string, variant: string]>> = {
  i386: ["386", ""],
  x86_64: ["amd64", ""],
  "x86-64": ["amd64", ""],
  aarch64: ["arm64", ""],
  armhf: ["arm", "v7"],
  armel: ["arm", "v6"],
};

/** Default variants, which are omitted. */
const usualVariants: Readonly<Record<string, readonly string[]>> = { amd64: ["v1"], arm64: ["8", "v8"] };

/** The platform of this machine's containers: always Linux. */
export function hostPlatform(): Platform {
  return normalizePlatform(
    create(PlatformSchema, { os: "linux", architecture: goArchitectures[process.arch] ?? process.arch }),
  );
}

/** The platform in canonical form: `aarch64` becomes `arm64`, `arm` becomes `arm/v7`, `amd64/v1` becomes `amd64`. */
export function normalizePlatform(platform: Platform): Platform {
  const written = platform.architecture.toLowerCase();
  const [architecture, implied] = ownValue(aliases, written) ?? [written, ""];
  return create(PlatformSchema, {
    os: platform.os.toLowerCase(),
    architecture,
    variant: normalizeVariant(architecture, platform.variant.toLowerCase() || implied),
  });
}

function normalizeVariant(architecture: string, variant: string): string {
  if (architecture === "arm") {
    return variant === "" ? "v7" : /^\d$/.test(variant) ? `v${variant}` : variant;
  }
  return ownValue(usualVariants, architecture)?.includes(variant) ? "" : variant;
}

/** `linux/amd64`, `linux/arm/v7`. */
export function formatPlatform(platform: Platform): string {
  return [platform.os || "unknown", platform.architecture, platform.variant]
    .filter((part) => part !== "")
    .join("/");
}

/**
 * How well an image of one platform runs where another is wanted: 0 is exact, higher is worse, undefined: not at all. A
 * newer ARM runs images for older ones, a 64-bit machine those for its 32-bit predecessor.
 */
export function platformDistance(wanted: Platform, offered: Platform): number | undefined {
  const want = normalizePlatform(wanted);
  const offer = normalizePlatform(offered);
  if (want.os !== offer.os) {
    return undefined;
  }
  const rank = runnableBy(want).indexOf(`${offer.architecture}/${offer.variant}`);
  return rank < 0 ? undefined : rank;
}

/** Architectures and variants that can run there, best first. */
function runnableBy(platform: Platform): readonly string[] {
  const { architecture, variant } = platform;
  const older = (from: string): string[] =>
    ["v8", "v7", "v6", "v5"].filter((each) => each <= from).map((each) => `arm/${each}`);
  switch (architecture) {
    case "arm":
      return older(variant);
    case "arm64":
      return variant === "" ? ["arm64/", ...older("v8")] : [`arm64/${variant}`, "arm64/", ...older("v8")];
    case "amd64": {
      const level = Number(/^v(\d)$/.exec(variant)?.[1] ?? 1);
      const lower = Array.from({ length: level - 1 }, (_, index) => level - index);
      return [...lower.map((each) => `amd64/v${each}`), "amd64/", "386/"];
    }
    default:
      return [`${architecture}/${variant}`];
  }
}
