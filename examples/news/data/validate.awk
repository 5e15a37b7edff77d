# What an article must be: a headline and a body of at least 100 words. A data step in another language than Python:
# the article comes on standard input and goes out as it is; exit code 3 rejects it, with a line on standard error as reason.

{ text = text $0 "\n" }
NR > 1 { words += NF }

END {
    if (words == 0) { print "empty body" > "/dev/stderr"; exit 3 }
    if (words < 100) { print "shorter than 100 words" > "/dev/stderr"; exit 3 }
    printf "%s", text
}
