# Variables in, shell out: export KEY='VALUE'. For busybox awk under LC_ALL=C, where a character is a byte.
#   format=tokens   JSON, cut into one token a line; the variables are its .data.attributes.variables
#   format=lines    KEY=VALUE to the end of the line, quotes around a whole value taken off; # comments
#   format=environ  the process environment
# `source` begins every message. Nothing is printed on stdout, and the status is 1, where JSON is not what it should be.

BEGIN {
	# Linux takes no longer `KEY=VALUE` than this, its closing byte included, and refuses every exec that has one.
	LONGEST = 131072
	want = "value"
}

format == "tokens" { token($0) }

format == "lines" && !/^[ \t]*(#.*)?$/ {
	cut = index($0, "=")
	if (cut)
		take(substr($0, 1, cut - 1), unquoted(substr($0, cut + 1)))
	else
		say("line " NR " is not KEY=VALUE: skipped")
}

END {
	if (format == "tokens" && !failed && want != "end")
		wrong("not JSON")
	if (format == "tokens" && !failed && !found)
		wrong("JSON without .data.attributes.variables")
	if (failed)
		exit 1
	if (format == "environ")
		for (name in ENVIRON)
			if (name !~ /^(PATH|PWD|OLDPWD|SHLVL|_)$/)
				take(name, ENVIRON[name])
	for (number = 1; number <= count; number++)
		if (order[number] in value)
			assign(order[number])
}

function say(text) {
	# Not to /dev/stderr: opening that again may be refused to the user that runs this.
	print source ": " text | "cat >&2"
	close("cat >&2")
}

function wrong(why) {
	say(why)
	failed = 1
	exit 1
}

function assign(key, parts, number, last) {
	printf "export %s='", key
	last = split(value[key], parts, "'")
	for (number = 1; number <= last; number++)
		printf "%s%s", (number > 1 ? "'\\''" : ""), parts[number]
	print "'"
}

function take(key, text) {
	if (key !~ /^[A-Za-z_][A-Za-z0-9_]*$/ || key ~ /\n/)
		say(shown(key) " is no name for a variable: skipped")
	else if (key ~ /^(LD_.*|BASH.*|PATH|IFS|ENV|SHELLOPTS|PS[0-4]|PROMPT_COMMAND|POSIXLY_CORRECT|OPTIND|OPTERR|OPTARG|E?UID|PPID|LINENO|S?RANDOM|SECONDS|FUNCNAME|GROUPS|DIRSTACK|HOME|USER|LOGNAME|_)$/)
		say(key " is not for the application to set: skipped")
	else if (length(key) + length(text) + 2 > LONGEST)
		say(key " is longer than Linux lets a variable be: skipped")
	else {
		if (!(key in known)) {
			known[key] = 1
			order[++count] = key
		}
		value[key] = text
	}
}

function shown(key) {
	key = substr(key, 1, 40)
	gsub(/[^A-Za-z0-9_.-]/, "?", key)
	return "\"" key "\""
}

function unquoted(text, first) {
	first = substr(text, 1, 1)
	if (length(text) > 1 && (first == "\"" || first == "'") && substr(text, length(text)) == first)
		return substr(text, 2, length(text) - 2)
	return text
}

# JSON: `want` is what the grammar asks for next, kind[depth] the bracket that is open, key[depth] its current key.

function token(text, first) {
	first = substr(text, 1, 1)
	if (text ~ /^[ \t\r]+$/)
		return
	if (first == "{" || first == "[")
		opened(first)
	else if (first == "}" || first == "]")
		closed(first)
	else if (first == ":" && want == "colon") {
		want = "value"
		nest(":")
	} else if (first == "," && want == "more") {
		want = kind[depth] == "{" ? "key" : "value"
		nest(",")
	} else if (first == "\"" && length(text) > 1 && text !~ /[\001-\037]/)
		quoted(text)
	else if (text ~ /^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)$/)
		scalar(text)
	else
		wrong("not JSON")
}

function expects_value() {
	return want == "value" || want == "value or ]"
}

function opened(bracket) {
	if (!expects_value())
		wrong("not JSON")
	if (depth == 64)
		wrong("JSON that is nested too deep")
	if (depth == 3 && bracket == "{" && at_variables())
		inside = found = 1
	if (depth == 4)
		nested = ""
	kind[++depth] = bracket
	want = bracket == "{" ? "key or }" : "value or ]"
	nest(bracket)
}

function closed(bracket) {
	if (kind[depth] != (bracket == "}" ? "{" : "[") || (want != "more" && want != (bracket == "}" ? "key or }" : "value or ]")))
		wrong("not JSON")
	nest(bracket)
	kind[depth--] = ""
	want = depth ? "more" : "end"
	if (depth == 4 && inside)
		take(key[4], nested)
	if (depth == 3)
		inside = 0
}

function quoted(text) {
	if (want == "key" || want == "key or }") {
		nest(text)
		key[depth] = decoded(text)
		if (unspeakable)
			key[depth] = "?"
		want = "colon"
		# A repeated key replaces what the one before it held.
		if (depth < 4 && at_variables_or_above())
			forget()
	} else if (expects_value()) {
		nest(text)
		want = depth ? "more" : "end"
		if (depth == 4 && inside) {
			text = decoded(text)
			if (unspeakable) {
				say(shown(key[4]) " holds a character that no variable can hold: skipped")
				delete value[key[4]]
			} else
				take(key[4], text)
		}
	} else
		wrong("not JSON")
}

function scalar(text) {
	if (!expects_value())
		wrong("not JSON")
	nest(text)
	want = depth ? "more" : "end"
	if (depth == 4 && inside) {
		if (text == "null") {
			say(shown(key[4]) " is null: not set")
			delete value[key[4]]
		} else
			take(key[4], text)
	}
}

# The text of a value that is itself an object or an array, as it was, without blanks.
function nest(text) {
	if (inside && depth > 4 && length(nested) < LONGEST)
		nested = nested text
}

function at_variables() {
	return at_variables_or_above() && depth == 3
}

function at_variables_or_above() {
	return key[1] == "data" && kind[1] == "{" && (depth < 2 || (key[2] == "attributes" && kind[2] == "{")) && (depth < 3 || (key[3] == "variables" && kind[3] == "{"))
}

function forget() {
	found = 0
	split("", value)
}

# A JSON string's bytes; `unspeakable` where there are none: the byte 0, half of a surrogate pair.
function decoded(text, parts, number, last, result, code, low) {
	unspeakable = 0
	text = substr(text, 2, length(text) - 2)
	if (!index(text, "\\"))
		return text
	last = split(text, parts, "\\")
	result = parts[1]
	for (number = 2; number <= last; number++) {
		if (parts[number] == "") {
			# Two backslashes: what follows the second one is plain.
			result = result "\\" parts[++number]
			continue
		}
		if (substr(parts[number], 1, 1) != "u") {
			result = result plain(substr(parts[number], 1, 1)) substr(parts[number], 2)
			continue
		}
		code = hexadecimal(substr(parts[number], 2, 4))
		if (code >= 55296 && code <= 56319 && length(parts[number]) == 5 && parts[number + 1] ~ /^u[dD][c-fC-F]/) {
			low = hexadecimal(substr(parts[++number], 2, 4))
			code = 65536 + (code - 55296) * 1024 + low - 56320
		}
		if (code == 0 || (code >= 55296 && code <= 57343))
			unspeakable = 1
		else
			result = result utf8(code) substr(parts[number], 6)
	}
	return result
}

function plain(letter) {
	if (letter == "b") return "\b"
	if (letter == "f") return "\f"
	if (letter == "n") return "\n"
	if (letter == "r") return "\r"
	if (letter == "t") return "\t"
	return letter
}

function hexadecimal(digits, number, code) {
	code = 0
	for (number = 1; number <= length(digits); number++)
		code = code * 16 + index("0123456789abcdef", tolower(substr(digits, number, 1))) - 1
	return code
}

function utf8(code) {
	if (code < 128)
		return sprintf("%c", code)
	if (code < 2048)
		return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
	if (code < 65536)
		return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
	return sprintf("%c%c%c%c", 240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
