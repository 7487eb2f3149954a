# Prints what zsh offers for the command line $2 with the completion script $1, a line each: an
# interactive zsh in a pseudo-terminal gets the line and a tab, and its compadd says what it adds,
# but for calls that fill arrays alone (-O, -A, -D).
TERM=dumb
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -Uz compinit; compinit -D -u'
zpty -w shell 'compadd() {
    [[ $* == *-[OAD]* ]] && { builtin compadd "$@"; return }
    local -a offered; builtin compadd -O offered "$@"
    print -rl -- offered=$^offered
    builtin compadd "$@"
}'
zpty -w shell 'complete-and-say() { zle complete-word; print; print end=$((1 + 1)) }'
zpty -w shell 'zle -N complete-and-say; bindkey "^I" complete-and-say'
zpty -w shell "source $1; print ready=\$((1 + 1))"
while zpty -r shell line; do
    [[ $line == *ready=2* ]] && break
done
zpty -n -w shell "$2"$'\t'
while zpty -r shell line; do
    [[ $line == *end=2* ]] && break
    [[ $line == *offered=* ]] && print -r -- ${(Q)${line#*offered=}%%$'\r'*}
done
zpty -d shell
