/** Measures with the docker CLI as the client, which is in Go: 1 GiB each way. */
import { type Measure, milliseconds, rate, type Target } from "./measures.ts";

/** A daemon for its users: a shell, and room for files. */
export interface CliTarget extends Target {
  /** Path of the daemon's socket. */
  readonly socket: string;
  /** The daemon's directory, on the disk that its containers are on. */
  readonly directory: string;
  /** Runs a shell's script whose `docker` speaks to the daemon. @throws Error: it fails */
  shell(script: string): Promise<void>;
}

const gib = 1024 ** 3;

const rateOf = async (target: CliTarget, script: string) =>
  rate(gib, await milliseconds(() => target.shell(script)));

/** Files of 1 GiB in a daemon's directory, made once: zeros that take no room, an image's archive, the image `big`. */
const zeros = ({ directory }: CliTarget) => `${directory}/bench-zeros`;
const saved = ({ directory }: CliTarget) => `${directory}/bench-image.tar`;
const makeZeros = (target: CliTarget) => target.shell(`truncate -s ${gib} ${zeros(target)}`);
const makeImage = (target: CliTarget) =>
  target.shell(
    `[ -e ${saved(target)} ] && exit
    mkdir ${target.directory}/bench-files
    head -c ${gib} /dev/urandom > ${target.directory}/bench-files/noise
    tar -C ${target.directory}/bench-files -c . | docker import - big
    rm -r ${target.directory}/bench-files
    docker save -o ${saved(target)} big`,
  );

/** All of them as rates. */
export const cliMeasures: readonly Measure<CliTarget>[] = [
  {
    name: "docker exec, stdout",
    unit: "MB/s",
    bar: { least: 2.5 },
    repeat: 1,
    run: (target) =>
      rateOf(target, `docker exec ${target.container} dd if=/dev/zero bs=1M count=1024 > /dev/null`),
  },
  {
    name: "docker exec, stdin",
    unit: "MB/s",
    bar: { least: 2 },
    repeat: 1,
    run: async (target) => {
      await makeZeros(target);
      return await rateOf(
        target,
        `docker exec -i ${target.container} dd of=/dev/null bs=1M < ${zeros(target)}`,
      );
    },
  },
  {
    name: "docker cp in",
    unit: "MB/s",
    bar: { least: 1.2 },
    repeat: 1,
    run: async (target) => {
      await makeZeros(target);
      return await rateOf(target, `docker cp ${zeros(target)} ${target.container}:/tmp/copied`);
    },
  },
  {
    name: "docker cp out",
    unit: "MB/s",
    bar: { least: 1.5 },
    repeat: 1,
    run: async (target) => {
      const { container } = target;
      await makeZeros(target);
      // The measure before it has copied it, where that is chosen.
      await target.shell(
        `docker exec ${container} test -e /tmp/copied || docker cp ${zeros(target)} ${container}:/tmp/copied`,
      );
      return await rateOf(target, `docker cp ${container}:/tmp/copied - > /dev/null`);
    },
  },
  {
    name: "docker save",
    unit: "MB/s",
    bar: { least: 1 },
    repeat: 1,
    run: async (target) => {
      await makeImage(target);
      return await rateOf(target, "docker save big > /dev/null");
    },
  },
  {
    name: "docker load",
    unit: "MB/s",
    bar: { least: 1 },
    repeat: 1,
    run: async (target) => {
      await makeImage(target);
      await target.shell("docker rmi big");
      return await rateOf(target, `docker load -i ${saved(target)}`);
    },
  },
];
