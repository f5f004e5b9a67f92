package server

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNesting bounds how deep `${a:-${b:-…}}` nests. shell.Lex recurses for each level, and a goroutine's stack is limited.
const maxNesting = 100

// wordBound reads a word as shell.Lex does, to bound what the word becomes, also with quotes left and unset variables
// unexpanded.
type wordBound struct {
	text   []rune
	at     int
	escape rune
	// Whether quotes are ordinary characters.
	raw   bool
	value func(name string) int64
	// Bound of all patterns.
	patterns int64
	nesting  int
	tooDeep  bool
}

// peek returns a negative number at the end.
func (w *wordBound) peek() rune {
	if w.at < len(w.text) {
		return w.text[w.at]
	}
	return -1
}

func (w *wordBound) next() rune {
	each := w.peek()
	w.at = min(w.at+1, len(w.text))
	return each
}

// size is the length of text in UTF-8 bytes; negative runes, which stand for the text's end, have none.
func size(text ...rune) (length int64) {
	for _, each := range text {
		if each >= 0 {
			length += int64(utf8.RuneLen(each))
		}
	}
	return length
}

// until reads up to stop and returns a bound of the text before it, and whether that, as a pattern, matches no empty text.
func (w *wordBound) until(stop rune) (length int64, isSome bool) {
	for w.at < len(w.text) && !w.tooDeep {
		switch each := w.peek(); {
		case each == stop:
			w.at++
			return length, isSome
		case each == '$':
			length = plus(length, w.variable())
		case each == '\'' && !w.raw:
			length += w.singleQuoted()
		case each == '"' && !w.raw:
			length = plus(length, w.doubleQuoted())
		default:
			w.at++
			length += size(each)
			if each == w.escape {
				length += size(w.next())
			}
			isSome = isSome || each != '*'
		}
	}
	return length, isSome
}

func (w *wordBound) singleQuoted() int64 {
	start := w.at
	w.at++
	for w.at < len(w.text) && w.next() != '\'' {
	}
	return size(w.text[start:w.at]...)
}

func (w *wordBound) doubleQuoted() (length int64) {
	length = size(w.next())
	for w.at < len(w.text) && !w.tooDeep {
		if w.peek() == '$' {
			length = plus(length, w.variable())
			continue
		}
		each := w.next()
		length += size(each)
		if each == '"' {
			break
		}
		if each == w.escape && slices.Contains([]rune{'"', '$', w.escape}, w.peek()) {
			length += size(w.next())
		}
	}
	return length
}

// variable reads from a dollar sign on. An unset variable may be left as it is.
func (w *wordBound) variable() int64 {
	start := w.at
	w.at++
	if w.peek() != '{' {
		name := w.name()
		if name == "" {
			return 1
		}
		return max(w.value(name), size(w.text[start:w.at]...))
	}
	if w.nesting++; w.nesting > maxNesting {
		w.tooDeep = true
		return 0
	}
	defer func() { w.nesting-- }()
	w.at++
	if slices.Contains([]rune{-1, '{', '}', ':'}, w.peek()) {
		return w.invalid()
	}
	name := w.name()
	value := w.value(name)
	operator := w.next()
	syntax := size(w.text[start:w.at]...)
	switch operator {
	case '}':
		return max(value, syntax)
	case ':', '+', '-', '?', '#', '%':
		if operator == ':' {
			operator = w.next()
			syntax += size(operator)
		}
		word, _ := w.until('}')
		if operator == '#' || operator == '%' {
			w.patterns = plus(w.patterns, word)
		}
		if operator == '+' {
			value = 0
		}
		return max(value, plus(word, syntax+1))
	case '/':
		isAll := w.peek() == '/'
		if isAll {
			w.at++
		}
		pattern, isSome := w.until('/')
		replacement, _ := w.until('}')
		w.patterns = plus(w.patterns, pattern)
		replaced := plus(value, replacement)
		switch {
		case isAll && isSome: // each match has a byte at least, of which `$0` in the replacement has copies
			replaced = times(value, max(1, replacement))
		case isAll:
			replaced = times(value+1, replacement+1)
		}
		return max(replaced, plus(plus(pattern, replacement), syntax+3))
	}
	return w.invalid()
}

// invalid ends a word that shell.Lex refuses.
func (w *wordBound) invalid() int64 {
	rest := w.text[w.at:]
	w.at = len(w.text)
	return size(rest...)
}

func (w *wordBound) name() string {
	start := w.at
	switch first := w.peek(); {
	case unicode.IsDigit(first):
		for unicode.IsDigit(w.peek()) {
			w.at++
		}
	case strings.ContainsRune("@*#?-$!0", first):
		w.at++
	default:
		for each := w.peek(); unicode.IsLetter(each) || unicode.IsDigit(each) || each == '_'; each = w.peek() {
			w.at++
		}
	}
	return string(w.text[start:w.at])
}

// saturated is larger than each limit. A sum of a few such lengths fits an int64.
const saturated = 1 << 40

func plus(a, b int64) int64 { return min(a+b, saturated) }

func times(a, b int64) int64 {
	if a > 0 && b > saturated/a {
		return saturated
	}
	return a * b
}
