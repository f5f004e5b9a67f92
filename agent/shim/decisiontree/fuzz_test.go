package decisiontree_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/sockerless/sockerless/agent/shim/decisiontree"
)

// genes is how many bytes shape an instruction.
const genes = 4

var (
	// Loads and comparisons with one value are what filters are made of.
	codes  = []uint16{0x20, 0x20, 0x20, 0x15, 0x15, 0x15, 0x15, 0x25, 0x35, 0x45, 0x54, 0x05, 0x06}
	words  = []uint32{0, 0, 0, 4, 4, 8, 16, 20, 60}
	values = []uint32{
		0, 1, 2, 3, 4, 5, 7, 10, 100, 101, 455, 1 << 28, x32Bit, x32Bit | 1, 1 << 31, 3 << 30, 0xf0000000, 0x50000000,
		x86, x86x64, arm64, math.MaxUint32 - 1, math.MaxUint32}
)

// shaped makes a program of bytes that seccomp(2) takes.
func shaped(data []byte) []byte {
	data = data[:min(len(data), 400*genes)]
	var program []bpf.RawInstruction
	left := len(data) / genes
	for gene := range slices.Chunk(data[:left*genes], genes) {
		next := bpf.RawInstruction{Op: codes[int(gene[0])%len(codes)], K: values[int(gene[1])%len(values)]}
		switch next.Op {
		case 0x20:
			next.K = words[int(gene[1])%len(words)]
		case 0x05:
			next.K = uint32(int(gene[1]) % left)
		case 0x06:
			next.K = 0x7ff00000 | uint32(gene[1])
		case 0x54: // whatever
		default:
			// Behind it is the next instruction, mostly.
			next.Jt, next.Jf = uint8(int(gene[2])%left), uint8(int(gene[3]/16)%left)
		}
		program = append(program, next)
		left--
	}
	return bytesOf(append(program, bpf.RawInstruction{Op: 0x06, K: 0x7fff0000}))
}

func compare(t *testing.T, original []byte) (shorter bool) {
	made := decisiontree.Equivalent(slices.Clone(original))
	if bytes.Equal(made, original) {
		return false
	}
	if len(made) >= len(original) {
		t.Fatalf("%d bytes of %d", len(made), len(original))
	}
	newAsker(t, original, made).askAll(1)
	return true
}

func TestProgramsMadeAtRandomAreDecidedAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	shorter := 0
	for range 200 {
		data := make([]byte, genes*(2+random.IntN(200)))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if compare(t, shaped(data)) {
			shorter++
		}
	}
	if shorter < 20 {
		t.Fatalf("%d only were made anew", shorter)
	}
}

// TestListsMadeAtRandomAreDecidedAlike has rows of comparisons, as libseccomp makes
// them, with actions and looks at arguments behind.
func TestListsMadeAtRandomAreDecidedAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	actions := []uint32{0, 0x30000, 0x50001, 0x50026, 0x7fc00000, 0x7ff00001, 0x7ffc0000, 0x7fff0000, 0x80000000}
	for range 40 {
		if !compare(t, list(random, actions)) {
			t.Fatal("one is not made shorter")
		}
	}
}

func list(random *rand.Rand, actions []uint32) []byte {
	program := []bpf.RawInstruction{{Op: 0x20, K: 4}}
	for _, arch := range []uint32{x86x64, x86} {
		var body []bpf.RawInstruction
		bit := uint32(random.IntN(2)) << 30
		for range 100 + random.IntN(300) {
			number := bit | uint32(random.IntN(500))
			action := actions[min(random.IntN(40), len(actions)-1)]
			if random.IntN(20) == 0 {
				body = append(body,
					bpf.RawInstruction{Op: 0x15, Jf: 4, K: number}, bpf.RawInstruction{Op: 0x20, K: 16},
					bpf.RawInstruction{Op: 0x15, Jf: 1, K: random.Uint32N(3)}, bpf.RawInstruction{Op: 0x06, K: action},
					bpf.RawInstruction{Op: 0x06, K: 0x50001})
				continue
			}
			body = append(body, bpf.RawInstruction{Op: 0x15, Jf: 1, K: number}, bpf.RawInstruction{Op: 0x06, K: action})
		}
		body = append([]bpf.RawInstruction{{Op: 0x20, K: 0}}, append(body, bpf.RawInstruction{Op: 0x06, K: 0x50001})...)
		program = append(program, bpf.RawInstruction{Op: 0x15, Jt: 1, K: arch}, bpf.RawInstruction{Op: 0x05, K: uint32(len(body))})
		program = append(program, body...)
	}
	return bytesOf(append(program, bpf.RawInstruction{Op: 0x06, K: actions[0]}))
}

func FuzzAProgramIsDecidedAlike(f *testing.F) {
	f.Add([]byte{0, 3, 0, 0, 3, 18, 0, 16, 0, 0, 0, 0, 3, 4, 1, 0, 12, 5, 0, 0, 12, 6, 0, 0})
	f.Add(bytes.Repeat([]byte{0, 0, 0, 0, 3, 9, 1, 0, 0, 6, 0, 0, 9, 13, 1, 0}, 20))
	f.Add(bytes.Repeat([]byte{3, 200, 250, 0}, 300))
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, shaped(data)) })
}

// FuzzAnyBytesAreAnsweredByAProgram also has what is no program.
func FuzzAnyBytesAreAnsweredByAProgram(f *testing.F) {
	for _, name := range []string{"one", "verdicts", "denies"} {
		f.Add(recorded(f, name))
	}
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, data) })
}
