/** Platforms as clients write them: `linux/arm64/v8` in some queries, JSON in others. */
import { create } from "@bufbuild/protobuf";

import { invalid, messageOf } from "../../common/errors.ts";
import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { parseJson } from "../http/json-body.ts";
import { JsonFields } from "./json-fields.ts";

const component = /^[A-Za-z0-9_.-]+$/;
const osAndVersion = /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$/;

/** The operating systems and architectures that Go knows; a single word must be one of them. */
const operatingSystems = wordsOf(
  "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos",
);
const architectures = wordsOf(
  "386 amd64 amd64p32 arm armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le " +
    "ppc riscv riscv64 s390 s390x sparc sparc64 wasm",
);
/** Aliases of architectures. */
const spellings = wordsOf("i386 x86_64 x86-64 aarch64 armhf armel");

/** Maximum characters of a platform, which is read by the thread that serves everybody. */
const maxCharacters = 1_024;

/**
 * Reads `os/architecture/variant`, or one of the first two alone, as containerd's package `platforms` does.
 *
 * @returns undefined for an empty text and for `linux`, which restricts nothing here
 * @throws SockerlessError of kind `invalid`, in the package's words
 */
export function platformFromText(text: string): Platform | undefined {
  if (text === "") {
    return undefined;
  }
  refuseLong(text);
  const quoted = JSON.stringify(text);
  if (text.includes("*")) {
    throw refused(`${quoted}: wildcards not yet supported`);
  }
  const [first = "", ...others] = text.split("/", 4);
  const system = osAndVersion.exec(first);
  if (system === null) {
    throw refused(componentRefusal("OS component", first, text, "OSAndVersion", osAndVersion));
  }
  const wrong = others.find((part) => !component.test(part));
  if (wrong !== undefined) {
    throw refused(componentRefusal("component", wrong, text, "platform", component));
  }
  const [architecture = "", variant = "", ...rest] = others;
  if (rest.length > 0) {
    throw refused(`${quoted}: cannot parse platform specifier`);
  }
  const os = systemNamed(system[1] ?? "");
  if (others.length > 0) {
    return create(PlatformSchema, { os, architecture, variant });
  }
  if (operatingSystems.has(os)) {
    return os === "linux" ? undefined : create(PlatformSchema, { os });
  }
  const word = first.toLowerCase();
  if (!architectures.has(word) && !spellings.has(word)) {
    throw refused(`${quoted}: unknown operating system or architecture`);
  }
  return create(PlatformSchema, { os: "linux", architecture: first });
}

function systemNamed(name: string): string {
  const lower = name.toLowerCase();
  return lower === "macos" ? "darwin" : lower;
}

function componentRefusal(what: string, part: string, text: string, specifier: string, rule: RegExp): string {
  const [quotedPart, quotedText, quotedRule] = [part, text, rule.source].map((each) => JSON.stringify(each));
  return `${quotedPart} is an invalid ${what} of ${quotedText}: ${specifier} specifier component must match ${quotedRule}`;
}

/** An error with the suffix that the package gives all of them. */
function refused(message: string): Error {
  return invalid(`${message}: invalid argument`);
}

function wordsOf(text: string): ReadonlySet<string> {
  return new Set(text.split(" "));
}

/**
 * Reads an OCI platform in JSON.
 *
 * @returns undefined for an empty text
 * @throws SockerlessError of kind `invalid`
 */
export function platformFromJson(text: string): Platform | undefined {
  if (text === "") {
    return undefined;
  }
  refuseLong(text);
  let platform: Platform;
  try {
    const fields = new JsonFields(parseJson(text), "Platform");
    platform = create(PlatformSchema, {
      os: fields.string("os"),
      architecture: fields.string("architecture"),
      variant: fields.string("variant"),
    });
  } catch (error) {
    throw invalid(`failed to parse platform: ${messageOf(error).replace(/^invalid JSON: /, "")}`, error);
  }
  if (platform.os === "" && platform.architecture === "" && platform.variant !== "") {
    throw invalid("optional platform fields provided, but OS and Architecture are missing");
  }
  if (platform.os === "" || platform.architecture === "") {
    throw invalid("both OS and Architecture must be provided");
  }
  return platform;
}

function refuseLong(text: string): void {
  if (text.length > maxCharacters) {
    throw invalid(`a platform has at most ${maxCharacters} characters`);
  }
}
