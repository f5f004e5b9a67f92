/** Dockerfiles that a real BuildKit and the builder have to make the same of: every instruction, and how it fails. */
import { gzipSync } from "node:zlib";

import { type TarEntry, tarOf } from "../support/tar.ts";
import type { BaseName } from "./base-images.ts";

/** A build of a context, whose bases are `busybox` and `parent`, an image with triggers. */
export interface BuildCase {
  readonly name: string;
  readonly dockerfile: string;
  readonly files?: readonly TarEntry[] | (() => Promise<readonly TarEntry[]>);
  /** Further bases, by the names that `FROM` has. */
  readonly bases?: readonly BaseName[];
  /** Flags of `docker buildx build`. */
  readonly args?: readonly string[];
  /** Files that the client has beside the context, by name; `@/name` in arguments is the path of one. */
  readonly beside?: Readonly<Record<string, string>>;
  readonly fails?: boolean;
  /** Lines of its files that differ for a reason in docs/building.md. */
  readonly except?: RegExp;
  /** Those that differ on `ecs`, in place of {@link BuildCase.except}. */
  readonly exceptOnEcs?: RegExp;
  /** Refused on `ecs`. */
  readonly notOnEcs?: boolean;
}

const old = new Date("2001-02-03T04:05:06Z");
/** A file of a context, of {@link old}. */
export const file = (name: string, content = `${name}\n`, rest: Partial<TarEntry> = {}): TarEntry => ({
  name,
  content,
  mtime: old,
  ...rest,
});
/** A directory of a context. */
export const directory = (name: string, mode = 0o755): TarEntry => ({
  name: `${name}/`,
  type: "directory",
  mode,
  mtime: old,
});
const symlink = (name: string, linkname: string): TarEntry => ({
  name,
  type: "symlink",
  linkname,
  mode: 0o777,
  mtime: old,
});

const someTree: readonly TarEntry[] = [
  directory("tree"),
  file("tree/a"),
  file("tree/run.sh", "#!/bin/sh\necho ran\n", { mode: 0o755 }),
  directory("tree/deep", 0o750),
  file("tree/deep/b", "b\n", { mode: 0o600 }),
  file("tree/deep/c.txt"),
  symlink("tree/link", "a"),
  symlink("tree/up", "../outside"),
  symlink("tree/nowhere", "/not/there"),
  directory("tree/empty", 0o700),
];

const packed = await tarOf([
  { name: "in/", type: "directory", mode: 0o711 },
  { name: "in/file", content: "packed\n", mode: 0o640, uid: 12, gid: 34 },
  { name: "in/link", type: "symlink", linkname: "file" },
  { name: "in/hard", type: "link", linkname: "in/file" },
  { name: "in/pipe", type: "fifo", mode: 0o620, mtime: old },
]);
const archives: readonly TarEntry[] = [
  { name: "plain.tar", content: packed, mtime: old },
  { name: "zipped.tgz", content: gzipSync(packed), mtime: old },
];

/** In the order of the reference of Dockerfiles. */
export const buildCases: readonly BuildCase[] = [
  {
    name: "every word about an image's configuration",
    dockerfile: `FROM busybox
LABEL one=1 two="with space" three='quoted'
ENV A=a B="b $A" C=\${A:-none}
ENV LEGACY with spaces
EXPOSE 80 443/tcp 53/udp 8000-8002
VOLUME /data ["/more"]
VOLUME ["/v1", "/v2"]
USER app:tty
WORKDIR /srv/app
WORKDIR below
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=5s --timeout=3s --start-period=1s --start-interval=2s --retries=4 CMD test -e /ok
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo", "$A"]
MAINTAINER someone
`,
  },
  {
    name: "SHELL and both forms of commands",
    dockerfile: `FROM busybox
SHELL ["/bin/sh", "-ec"]
RUN echo "$0" > /shell
RUN ["/bin/sh", "-c", "echo exec > /exec"]
ENTRYPOINT echo entry
CMD command in a shell
HEALTHCHECK NONE
`,
  },
  {
    name: "arguments in their scopes",
    dockerfile: `ARG VERSION=latest
ARG SHARED=of-all
FROM busybox AS first
ARG SHARED
ARG LOCAL=local
ARG UNSET
RUN echo "$SHARED $LOCAL \${UNSET-unset}" > /scope
FROM first
ARG TARGETARCH
ARG TARGETPLATFORM
ARG GIVEN=default
ENV FROM_ARG=$GIVEN
ARG LATE=$FROM_ARG-late
RUN echo "$TARGETPLATFORM $TARGETARCH \${SHARED-gone} $GIVEN $LATE \${LOCAL-gone}" > /scope2
LABEL given=$GIVEN
`,
    args: ["--build-arg", "GIVEN=told", "--build-arg", "HTTP_PROXY="],
  },
  {
    name: "variables in all their forms",
    dockerfile: `FROM busybox
ENV V=one.two.three EMPTY=
ENV P=\${V#*.} PP=\${V##*.} S=\${V%.*} SS=\${V%%.*} R=\${V/two/2} RR=\${V//e/E}
ENV D=\${EMPTY:-default} E=\${EMPTY:+set} U=\${UNSET-unset} ESC=\\$V
WORKDIR /\${S}
COPY ["a file", "/\${SS}/"]
`,
    files: [file("a file")],
  },
  {
    name: "stages side by side, from one another and by number",
    // A root file system is read through a container, whose own files come along.
    except: /^\/all\/(\.dockerenv|dev|etc|proc|sys)\b/,
    // Nobody knows when the root directory was made.
    exceptOnEcs: /^\/all( |\/(\.dockerenv|dev|etc|proc|sys)\b)/,
    dockerfile: `FROM busybox AS one
RUN mkdir /out && echo one > /out/one && chmod 4711 /out/one && chown 3:4 /out/one && ln -s one /out/link
FROM busybox AS two
RUN mkdir /out && echo two > /out/two && ln /out/two /out/hard
FROM busybox AS unused
RUN exit 1
FROM scratch AS files
COPY --from=one /out /one
COPY --from=1 /out/ /two/
FROM busybox
COPY --from=files / /all
COPY --from=busybox /etc/passwd /passwd
RUN cat /all/one/one /all/two/hard > /both
`,
  },
  {
    name: "a target between stages",
    dockerfile: `FROM busybox AS a
RUN echo a > /a
FROM a AS b
RUN echo b > /b
FROM b AS c
RUN echo c > /c
`,
    args: ["--target", "b"],
  },
  {
    name: "here-documents",
    dockerfile: `FROM busybox
RUN <<EOF
echo one > /one
echo two > /two
EOF
RUN <<-'QUOTED' cat > /quoted
	$NOT expanded
	QUOTED
RUN <<A cat > /a && <<B cat > /b
of a
A
of b
B
COPY <<one <<two /docs/
first
one
second
two
COPY --chmod=755 --chown=1000:5 <<EOF /script.sh
#!/bin/sh
echo $PATH
EOF
`,
  },
  {
    name: "COPY into what is there, and into what is not",
    dockerfile: `FROM busybox
COPY tree /tree
COPY tree/a /new/dir/
COPY tree/a /new/name
COPY tree/a tree/deep/b /two/
COPY tree/*.sh tree/de*/c.tx? /wild/
COPY tree/link /link
COPY tree/deep /tree/empty
WORKDIR /work
COPY tree/a .
COPY tree/a relative/
COPY . /all/
COPY tree/deep/ /etc
`,
    files: [
      ...someTree,
      file(".dockerignore", "ignored*\n!ignored-not\n**/*.log\n"),
      file("ignored"),
      file("ignored-not"),
      file("x.log"),
      directory("sub"),
      file("sub/y.log"),
      file("sub/z"),
    ],
  },
  {
    name: "COPY with owners and modes",
    dockerfile: `FROM busybox
COPY --chown=app tree /named
COPY --chown=app:tty tree/a /group
COPY --chown=7:8 tree /numbers
COPY --chown=daemon:9 tree/a /mixed/below/a
COPY --chmod=640 tree/a /mode
COPY --chmod=u=rwX,go=rX tree /symbolic
COPY --chmod=0700 tree /octal
COPY --chown=app --chmod=4755 tree/run.sh /both
USER app
COPY tree/a /user/a
WORKDIR /home/app/new
RUN echo mine > mine
`,
    files: someTree,
  },
  {
    name: "COPY --link, --parents and --exclude",
    dockerfile: `FROM busybox AS base
RUN mkdir -p /linked && echo before > /linked/before
FROM base
COPY --link tree /linked/
COPY --link --chown=5:6 tree/a /linked/owned/
COPY --link --from=base /linked/before /from
COPY --parents tree/deep/b tree/./deep/c.txt /parents/
COPY --parents tree/*/c.txt /wild/
COPY --exclude=*.txt --exclude=**/b tree /excluded
ADD --link tree/a /added
RUN ls -la /linked > /dev/null
`,
    files: someTree,
  },
  {
    name: "COPY over links of the image",
    dockerfile: `FROM busybox
RUN mkdir -p /real/dir && ln -s /real/dir /short && ln -s real /relative && echo old > /real/file && ln -s file /real/tofile
COPY tree/a /short/a
COPY tree/a /relative/dir/b
COPY tree /short/
COPY tree/a /real/tofile
`,
    files: someTree,
  },
  {
    name: "a directory where a file was, and the other way round",
    dockerfile: `FROM busybox
RUN mkdir -p /x/dir && echo f > /x/file && mkdir -p /y && echo kept > /y/kept
RUN rm -r /x && mkdir /x && echo new > /x/dir && mkdir /x/file
RUN rm /x/dir
COPY tree/deep /y
RUN rm -rf /y && mkdir /y
`,
    files: someTree,
  },
  {
    name: "ADD of archives",
    dockerfile: `FROM busybox
ADD plain.tar /plain/
ADD zipped.tgz /zipped
ADD --unpack=false plain.tar /kept.tar
ADD --chown=1:2 zipped.tgz /owned/
ADD tree/a plain.tar /both/
ADD --chmod=600 tree/a /file
COPY plain.tar /copied.tar
`,
    files: [...someTree, ...archives],
  },
  {
    name: "ONBUILD told by an image and obeyed by its child",
    dockerfile: `FROM busybox AS parent
ONBUILD RUN echo triggered > /triggered
ONBUILD COPY tree/a /onbuild/
ONBUILD ENV TRIGGERED=yes
ONBUILD ARG X=1
FROM parent
RUN cat /triggered
ONBUILD RUN never
`,
    files: someTree,
  },
  {
    name: "RUN with mounts of the context, of stages and in memory",
    dockerfile: `FROM busybox AS other
RUN mkdir /o && echo other > /o/file
FROM busybox
RUN --mount=type=bind,target=/ctx cat /ctx/tree/a > /a
RUN --mount=type=bind,source=tree/deep,target=/deep --mount=type=bind,from=other,source=/o,target=/mnt/other \\
  cat /deep/b /mnt/other/file > /b
RUN --mount=type=tmpfs,target=/scratch echo gone > /scratch/x && test -e /scratch/x
`,
    files: someTree,
  },
  {
    name: "RUN with a cache that has an owner",
    notOnEcs: true,
    dockerfile: `FROM busybox
RUN --mount=type=cache,target=/cache,id=beside,mode=0711,uid=3 stat -c '%a %u' /cache > /cache-stat; echo kept > /cache/x
`,
  },
  {
    name: "RUN with mounts of single files, and with mounts that it writes to",
    dockerfile: `FROM busybox
RUN --mount=type=bind,from=busybox,source=/etc/passwd,target=/one-file cat /one-file > /c
RUN --mount=type=bind,source=tree/a,target=/etc/group --mount=type=bind,source=tree/run.sh,target=/new/run.sh \\
  cat /etc/group > /d; stat -c '%a %u' /new/run.sh /etc/group >> /d
RUN --mount=type=bind,source=tree,target=/etc/tree,rw --mount=type=bind,source=tree/a,target=/etc/passwd,rw \\
  echo more >> /etc/tree/a; echo more >> /etc/passwd; cat /etc/tree/a /etc/passwd > /e
RUN cat /etc/passwd > /f; ls -d /one-file /new /etc/tree >> /f 2>&1; true
`,
    files: someTree,
  },
  {
    name: "RUN with secrets",
    dockerfile: `FROM busybox
RUN --mount=type=secret,id=token cat /run/secrets/token | md5sum > /sum
RUN --mount=type=secret,id=token,target=/etc/token,mode=0444,uid=5,gid=6 stat -c '%a %u %g' /etc/token > /stat
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
`,
    beside: { token: "the secret" },
    args: ["--secret", "id=token,src=@/token"],
  },
  {
    name: "RUN without a network",
    exceptOnEcs: /^\/links /,
    dockerfile: `FROM busybox
RUN --network=none ip link show | grep -c '^[0-9]' > /links
`,
  },
  {
    name: "hosts of the build",
    dockerfile: `FROM busybox
RUN grep far /etc/hosts > /far
RUN hostname > /dev/null
`,
    args: ["--add-host", "far:1.2.3.4"],
  },
  {
    name: "what a step sees of itself",
    exceptOnEcs: /^\/(env|name) /,
    dockerfile: `FROM busybox
RUN hostname > /name
RUN env | grep -v -e ^OTEL_ -e ^TRACEPARENT= -e PWD -e SHLVL | sort > /env
RUN id > /id; umask > /umask; pwd > /pwd; ulimit -n > /dev/null
RUN cat < /dev/null > /stdin; test ! -t 0; ls -A /dev/shm > /shm
USER app
RUN id > /tmp/id; echo $HOME > /tmp/home; touch /tmp/mine
USER 4242
RUN id > /tmp/id2; echo $HOME > /tmp/home2
WORKDIR /made
RUN pwd > /tmp/pwd
`,
  },
  {
    name: "what a step leaves: links, extended attributes, times, devices",
    // The names of one file stay those of one file.
    exceptOnEcs: /^\/(copy|t)\/(a|hard|d\/moved) /,
    dockerfile: `FROM busybox
RUN mkdir -p /t/d && cd /t && echo a > a && ln a hard && ln -s a soft && ln -s ../nowhere d/dangling && \\
  chmod 1777 d && mkfifo pipe && touch -d '2001-02-03 04:05:06' a && chown 11:12 soft d
RUN cd /t && chown -h 9:9 soft && mv hard d/moved && echo more >> d/moved
RUN cp -a /t /copy
RUN rm /t/a && chmod 700 /t
`,
  },
  {
    name: "files removed, replaced and moved between steps",
    dockerfile: `FROM busybox
COPY tree /tree
RUN rm -r /tree/deep && mv /tree/a /tree/moved
RUN mkdir /tree/deep && echo new > /tree/deep/new
RUN rm /etc/os-release /etc/group
RUN true
RUN mv /tree /tree2
`,
    files: someTree,
  },
  {
    name: "an image of files alone",
    dockerfile: `FROM scratch
COPY tree/a /
COPY tree /tree/
ADD plain.tar /
ENTRYPOINT ["/a"]
`,
    files: [...someTree, ...archives],
  },
  { name: "nothing at all", dockerfile: "FROM scratch\nLABEL only=this\n" },
  {
    name: "images for two platforms, of files alone",
    dockerfile: `FROM --platform=$BUILDPLATFORM busybox AS cross
ARG TARGETPLATFORM
RUN echo $TARGETPLATFORM > /target
FROM scratch
COPY --from=cross /target /
COPY --link tree/a /
ENTRYPOINT ["/target"]
`,
    files: someTree,
    args: ["--platform", "linux/amd64,linux/arm64,linux/arm/v7"],
  },
  { name: "a base alone", dockerfile: "FROM busybox\n" },
  {
    name: "flags of the command line",
    dockerfile: "FROM busybox\nLABEL one=file two=file\nRUN echo x > /x\n",
    args: ["--label", "two=flag", "--label", "three=", "--no-cache"],
  },
  {
    name: "times of files by SOURCE_DATE_EPOCH",
    dockerfile: "FROM busybox\nCOPY tree /tree\nRUN echo x > /x\n",
    files: someTree,
    args: ["--build-arg", "SOURCE_DATE_EPOCH=1000000000"],
  },
  {
    name: "times of files by the context, which says none",
    dockerfile: "FROM busybox\nCOPY tree /tree\n",
    files: someTree,
    args: ["--build-arg", "SOURCE_DATE_EPOCH=context"],
  },
  {
    name: "a Dockerfile of another name, escapes and comments",
    dockerfile:
      `# escape=\`
# comment
FROM busybox
# between
RUN echo one ` +
      `\`
  # within
  two > /x
COPY tree/a C:\\dir
`,
    files: someTree,
  },
  {
    name: "hard links and modes of a context",
    dockerfile:
      "FROM busybox AS one\nCOPY . /c\nFROM busybox\nCOPY --from=one --chown=1:1 /c /d\nCOPY --from=one /c /e\n",
    files: [
      file("first"),
      { name: "second", type: "link", linkname: "first", mtime: old },
      file("set", "set\n", { mode: 0o6755 }),
      directory("sticky", 0o1777),
      file("owned", "o\n", { uid: 77, gid: 88 }),
      file("name with spaces and ünïcode"),
    ],
  },
  { name: "a wildcard without a match", dockerfile: "FROM busybox\nCOPY missing* /x/\n" },
  {
    name: "an owner that is not there",
    dockerfile: "FROM busybox\nCOPY --chown=nobody-knows a /x\n",
    files: [file("a")],
  },
  // Builds that fail.
  {
    name: "a step that fails",
    fails: true,
    dockerfile: "FROM busybox\nRUN echo last words >&2; exit 42\n",
  },
  {
    name: "a command that is not in the path",
    fails: true,
    dockerfile: "FROM busybox\nRUN not-there x 2> /dev/null\n",
  },
  {
    name: "a step that is killed",
    fails: true,
    dockerfile: "FROM busybox\nRUN sh -c 'kill -9 $$'; exit $?\n",
  },
  {
    name: "a user that is not there",
    fails: true,
    dockerfile: "FROM busybox\nUSER nobody-knows\nRUN true\n",
  },
  {
    name: "a file that is not in the context",
    fails: true,
    dockerfile: "FROM busybox\nCOPY missing /x\n",
  },
  {
    name: "a file that is not in a stage",
    fails: true,
    dockerfile: "FROM busybox AS a\nFROM busybox\nCOPY --from=a /missing /x\n",
  },
  { name: "a stage that is not there", fails: true, dockerfile: "FROM busybox\nCOPY --from=9 a /x\n" },
  { name: "an unknown instruction", fails: true, dockerfile: "FROM busybox\nRUNN true\n" },
  { name: "an unknown flag", fails: true, dockerfile: "FROM busybox\nCOPY --nothing=1 a /x\n" },
  {
    name: "a mount of an unknown type",
    fails: true,
    dockerfile: "FROM busybox\nRUN --mount=type=disk,target=/x true\n",
  },
  { name: "an empty Dockerfile", fails: true, dockerfile: "" },
  {
    name: "a target that is not there",
    fails: true,
    dockerfile: "FROM busybox\n",
    args: ["--target", "nothing"],
  },
  {
    name: "a secret that is not given",
    fails: true,
    dockerfile: "FROM busybox\nRUN --mount=type=secret,id=absent,required true\n",
  },
  {
    name: "a file in the way of a directory",
    fails: true,
    dockerfile: "FROM busybox\nRUN echo f > /f\nCOPY a /f/x\n",
    files: [file("a")],
  },
];
